/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: what a line of the control socket asks for. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "ctl/internal.h"

#define DIRTY_MAX 1000u
#define DRAIN_DEFAULT_S 60u
#define DRAIN_MAX_S 86400u

json_t *answer_error(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* What a client sent may be in it, in any encoding. */
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c >= 0x80 || (unsigned char)*c < 0x20)
			*c = '?';
	}
	return json_pack("{s:b, s:s}", "ok", 0, "error", text);
}

json_t *answer_result(json_t *result)
{
	return json_pack("{s:b, s:o}", "ok", 1, "result", result);
}

/* ---- The commands ---- */

struct request {
	struct ctl *ctl;
	struct connection *connection;
	const json_t *line;
};

static json_t *run_status(const struct request *r)
{
	return answer_result(status_all(r->ctl));
}

static json_t *run_requests(const struct request *r)
{
	return answer_result(status_requests(r->ctl));
}

static json_t *run_dirty(const struct request *r)
{
	return answer_result(status_dirty(r->ctl, DIRTY_MAX));
}

static json_t *run_inode(const struct request *r)
{
	const char *mount = json_string_value(json_object_get(r->line, "mount"));
	const json_t *nodeid = json_object_get(r->line, "nodeid");
	json_t *found;

	/* The upper half of the numbers is negative in JSON's integers. */
	if (!mount || !json_is_integer(nodeid) || json_integer_value(nodeid) == 0)
		return answer_error("inode: needs \"mount\", a name, and \"nodeid\", a number");
	found = status_inode(r->ctl, mount, (uint64_t)json_integer_value(nodeid));
	return found ? answer_result(found) : answer_error("there is no mount \"%s\"", mount);
}

static json_t *run_log_level(const struct request *r)
{
	const json_t *value = json_object_get(r->line, "level");
	enum log_level level;

	if (value) {
		if (!json_is_string(value) || !log_level_parse(json_string_value(value), &level))
			return answer_error(
				"log-level: \"level\" is error, warn, info, debug or trace");
		log_set_level(level);
		log_event(level, "log_level", "level=%s by=ovfsctl", log_level_name(level));
	}
	return answer_result(json_pack("{s:s}", "level", log_level_name(log_get_level())));
}

/* An array of strings, or nothing: *@names NULL. False: neither. */
static bool request_names(const struct request *r, const json_t **names)
{
	const json_t *array = json_object_get(r->line, "names"), *name;
	size_t i;

	*names = NULL;
	if (!array)
		return true;
	if (!json_is_array(array))
		return false;
	json_array_foreach(array, i, name)
	{
		if (!json_is_string(name))
			return false;
	}
	if (json_array_size(array) > 0)
		*names = array;
	return true;
}

static json_t *run_job(const struct request *r, enum job_kind kind, uint64_t timeout_ns)
{
	const json_t *names;

	if (!request_names(r, &names))
		return answer_error("\"names\" is a list of mounts or storages");
	return job_start(r->ctl, r->connection, kind, names, timeout_ns);
}

static json_t *run_reload(const struct request *r)
{
	return run_job(r, JOB_RELOAD, 0);
}

static json_t *run_flush(const struct request *r)
{
	return run_job(r, JOB_FLUSH, 0);
}

static json_t *run_drop_cache(const struct request *r)
{
	return run_job(r, JOB_DROP_CACHE, 0);
}

static json_t *run_drain(const struct request *r)
{
	const json_t *timeout = json_object_get(r->line, "timeout");
	double seconds = timeout ? json_number_value(timeout) : DRAIN_DEFAULT_S;

	if ((timeout && !json_is_number(timeout)) || !(seconds >= 0 && seconds <= DRAIN_MAX_S))
		return answer_error("drain: \"timeout\" is a number of seconds, at most %u",
				    DRAIN_MAX_S);
	return run_job(r, JOB_DRAIN, (uint64_t)(seconds * 1e9));
}

static const struct command {
	const char *name;
	json_t *(*run)(const struct request *request);
} commands[] = {
	{ "status", run_status }, { "requests", run_requests },	  { "dirty", run_dirty },
	{ "inode", run_inode },	  { "log-level", run_log_level }, { "reload", run_reload },
	{ "flush", run_flush },	  { "drain", run_drain },	  { "drop-cache", run_drop_cache },
};

json_t *command_run(struct ctl *ctl, struct connection *connection, const char *text, size_t len)
{
	struct request request = { .ctl = ctl, .connection = connection };
	json_t *answer = NULL;
	json_error_t error;
	const char *name;
	json_t *line;

	line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!line)
		return answer_error("this is no JSON: %s", error.text);
	request.line = line;
	name = json_string_value(json_object_get(line, "command"));
	for (size_t i = 0; name && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(commands[i].name, name) == 0) {
			answer = commands[i].run(&request);
			json_decref(line);
			return answer;
		}
	}
	answer = name ? answer_error("there is no command \"%s\"", name)
		      : answer_error("a request is an object with a \"command\"");
	json_decref(line);
	return answer;
}
