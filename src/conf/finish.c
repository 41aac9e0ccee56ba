/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a loader does besides the file's own text: secrets from other files and
 * from the environment, keys that do not go together.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "conf/load_priv.h"
#include "conf/value.h"

/* Bytes of a file that holds one value: the longest are session tokens. */
#define CONF_VALUE_FILE_MAX (64 * 1024)

int conf_read_file(const char *path, size_t max, char **text, size_t *len, bool *exposed)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	CLEANUP_FREE char *buf = malloc(max + 1);
	struct stat st;
	ssize_t n;

	*len = 0;
	if (fd < 0)
		return errno;
	if (!buf)
		return ENOMEM;
	*exposed = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH);
	for (;;) {
		n = read(fd, buf + *len, max + 1 - *len);
		if (n > 0)
			*len += (size_t)n;
		else if (n == 0)
			break;
		else if (errno != EINTR)
			return errno;
	}
	*text = STEAL_PTR(buf);
	return 0;
}

char *conf_expand_env(const char *text, char **missing)
{
	static const char intro[] = "${env:";
	char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	while (f) {
		const char *start = strstr(text, intro), *name, *end, *value;

		if (!start) {
			fputs(text, f);
			return fclose(f) == 0 ? out : NULL;
		}
		fwrite(text, 1, (size_t)(start - text), f);
		name = start + sizeof(intro) - 1;
		end = strchr(name, '}');
		*missing = end ? strndup(name, (size_t)(end - name)) : NULL;
		value = *missing ? getenv(*missing) : NULL;
		if (!value)
			break;
		fputs(value, f);
		free(*missing);
		*missing = NULL;
		text = end + 1;
	}
	if (f)
		fclose(f);
	free(out);
	return NULL;
}

bool conf_key_applies(const struct conf_table *tables, size_t count, const struct conf_table *table,
		      const struct conf_key *key, const void *const targets[CONF_SCOPES])
{
	unsigned only = key->only ? key->only : table->only;
	const struct conf_key *selector;
	size_t index;

	if (!only)
		return true;
	selector = conf_key_find(tables, count, table->selector, &index);
	return selector &&
	       (only & CONF_ONLY(conf_value_integer(selector, targets[selector->scope])));
}

static void PRINTF_LIKE(2, 3) conf_load_warn(struct conf_load *load, const char *fmt, ...)
{
	char **grown = reallocarray(load->warning, load->warning_count + 1, sizeof(*grown));
	va_list ap;

	if (!grown)
		return;
	load->warning = grown;
	va_start(ap, fmt);
	if (vasprintf(&grown[load->warning_count], fmt, ap) >= 0)
		conf_sanitise(grown[load->warning_count++]);
	va_end(ap);
}

const char *const *conf_load_warnings(const struct conf_load *load, size_t *count)
{
	*count = load->warning_count;
	return (const char *const *)load->warning;
}

/* @key of @table stands in the file although the selector has another value. */
static void conf_finish_misplaced(struct conf_load *load, const struct conf_table *table,
				  const struct conf_key *key)
{
	unsigned only = key->only ? key->only : table->only;
	const struct conf_key *selector;
	char name[128], wanted[256] = "";
	size_t index;

	selector = conf_key_find(load->tables, load->table_count, table->selector, &index);
	for (size_t i = 0; selector->words[i]; i++) {
		if (only & CONF_ONLY(i))
			snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted),
				 "%s\"%s\"", wanted[0] ? " or " : "", selector->words[i]);
	}
	snprintf(name, sizeof(name), "%s.%s", table->name, key->name);
	conf_load_problem(
		load, name, "this key is for %s = %s, and %s is \"%s\"", selector->name, wanted,
		selector->name,
		selector->words[conf_value_integer(selector, load->target[selector->scope])]);
}

/* @key is a path: the value of @key->reads from that file. */
static void conf_finish_read(struct conf_load *load, const struct conf_table *table,
			     const struct conf_key *key)
{
	const char *path = *conf_value_string(key, load->target[key->scope]);
	CLEANUP_FREE char *text = NULL;
	char name[128], reads[128];
	const struct conf_key *into;
	size_t len, index;
	bool exposed;
	struct err *e;
	int rc;

	snprintf(name, sizeof(name), "%s.%s", table->name, key->name);
	snprintf(reads, sizeof(reads), "%s.%s", table->name, key->reads);
	into = conf_key_find(load->tables, load->table_count, reads, &index);
	if (conf_load_has(load, reads)) {
		conf_load_problem(load, name, "%s is given, too: leave one of them out",
				  key->reads);
		return;
	}
	rc = conf_read_file(path, CONF_VALUE_FILE_MAX, &text, &len, &exposed);
	if (rc) {
		conf_load_problem(load, name, "cannot read \"%s\": %s", path, strerror(rc));
		return;
	}
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (len > CONF_VALUE_FILE_MAX || memchr(text, '\0', len)) {
		conf_load_problem(load, name, "\"%s\" is not a text of one value", path);
		return;
	}
	text[len] = '\0';
	e = conf_value_from_text(into, text, load->target[into->scope]);
	if (e)
		conf_load_problem(load, name, "\"%s\": %s", path, err_msg(e));
	err_free(e);
	if (exposed && (into->flags & CONF_SECRET))
		conf_load_warn(load,
			       "%s: everybody can read \"%s\", which holds a secret: chmod o-r",
			       name, path);
}

void conf_load_finish(struct conf_load *load)
{
	const struct conf_origin *origin = load->origin;
	bool warned = false;

	for (size_t t = 0; t < load->table_count; t++) {
		const struct conf_table *table = &load->tables[t];

		for (size_t k = 0; k < table->key_count; k++, origin++) {
			const struct conf_key *key = &table->key[k];

			if (!conf_key_applies(load->tables, load->table_count, table, key,
					      (const void *const *)load->target)) {
				if (origin->line && !origin->option)
					conf_finish_misplaced(load, table, key);
				continue;
			}
			if (key->reads && *conf_value_string(key, load->target[key->scope]))
				conf_finish_read(load, table, key);
			if ((key->flags & CONF_SECRET) && load->file_exposed && origin->literal &&
			    !origin->option && !warned) {
				conf_load_warn(load,
					       "%s:%d: %s.%s: everybody can read this file, which "
					       "holds a secret: chmod o-r",
					       load->file, origin->line, table->name, key->name);
				warned = true;
			}
		}
	}
}
