/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that take long: each on a thread of its own, so that one that hangs on a storage
 * holds up no other, and bounded in number. Its client is told each second how far all tasks are
 * (base/progress.h), and at the end how it went.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/progress.h"
#include "ctl/internal.h"

#define JOBS_MAX 8u
#define TASKS_MAX 64u
#define STORAGES_MAX 1024u

struct job {
	struct ctl *ctl;
	struct connection *connection; /* the thread of ctl's; NULL: nobody waits */
	enum job_kind kind;
	uint64_t timeout_ns;
	struct progress progress;
	struct loop_task end;
	json_t *answer;
	bool too_many; /* storages for one job */
	unsigned count;
	struct ctl_entry *storages[]; /* used */
};

static const char *const kind_names[] = {
	[JOB_RELOAD] = "reload",
	[JOB_FLUSH] = "flush",
	[JOB_DRAIN] = "drain",
	[JOB_DROP_CACHE] = "drop-cache",
};

json_t *job_progress(void)
{
	struct progress_view *view = calloc(TASKS_MAX, sizeof(*view));
	unsigned count = view ? progress_list(view, TASKS_MAX) : 0;
	json_t *array = json_array();

	for (unsigned i = 0; i < count; i++) {
		const struct progress_view *v = &view[i];
		/* A file's name need not be UTF-8. */
		json_t *subject = json_string(v->subject);

		json_array_append_new(
			array, json_pack("{s:s, s:o, s:s, s:I, s:I, s:f}", "task", v->task,
					 "subject", subject ? subject : json_string("?"), "unit",
					 v->unit, "done", (json_int_t)v->done, "total",
					 (json_int_t)v->total, "seconds", (double)v->age_ns / 1e9));
	}
	free(view);
	return array;
}

/* ---- Its storages ---- */

static void job_free(struct job *job)
{
	for (unsigned i = 0; i < job->count; i++)
		ctl_entry_put(job->storages[i]);
	json_decref(job->answer);
	free(job);
}

static void job_add(struct job *job, struct ctl_entry *entry)
{
	for (unsigned i = 0; i < job->count; i++) {
		if (job->storages[i] == entry) {
			ctl_entry_put(entry);
			return;
		}
	}
	if (job->count == STORAGES_MAX) {
		ctl_entry_put(entry);
		job->too_many = true;
	} else {
		job->storages[job->count++] = entry;
	}
}

/* The storages of a mount; false when it is none. */
static bool job_add_mount(struct job *job, const char *name)
{
	struct ctl_entry *mount = ctl_entry_find(job->ctl, &job->ctl->mounts, name);
	struct ctl_mount_stats *stats = mount ? calloc(1, sizeof(*stats)) : NULL;

	if (stats) {
		ctl_mount_of(mount)->ops->stats(mount->ctx, stats);
		for (unsigned i = 0; i < stats->parts; i++) {
			struct ctl_entry *entry = ctl_entry_find(job->ctl, &job->ctl->storages,
								 stats->part[i].storage);

			if (entry)
				job_add(job, entry);
		}
	}
	free(stats);
	if (mount)
		ctl_entry_put(mount);
	return mount != NULL;
}

/* NULL: all are found. */
static json_t *job_find(struct job *job, const json_t *names)
{
	const json_t *item;
	size_t i;

	if (!names) {
		ctl_for_each (entry, job->ctl, &job->ctl->storages) {
			struct ctl_entry *again =
				ctl_entry_find(job->ctl, &job->ctl->storages, entry->name);

			if (again)
				job_add(job, again);
		}
		return NULL;
	}
	json_array_foreach(names, i, item)
	{
		const char *name = json_string_value(item);
		struct ctl_entry *entry = ctl_entry_find(job->ctl, &job->ctl->storages, name);

		if (entry)
			job_add(job, entry);
		else if (!job_add_mount(job, name))
			return answer_error("there is no mount or storage \"%s\"", name);
	}
	return NULL;
}

/* ---- On the job's thread ---- */

static json_t *job_flush(struct job *job)
{
	json_t *failed = json_object();

	for (unsigned i = 0; i < job->count; i++) {
		struct ctl_entry *entry = job->storages[i];
		int ret = ctl_storage_of(entry)->ops->flush(entry->ctx);

		progress_add(&job->progress, 1);
		if (ret < 0)
			json_object_set_new(failed, entry->name, json_string(strerror(-ret)));
	}
	if (json_object_size(failed) > 0)
		return json_pack("{s:b, s:s, s:o}", "ok", 0, "error",
				 "not everything could be written; see the log", "failed", failed);
	json_decref(failed);
	return answer_result(json_pack("{s:i}", "storages", (int)job->count));
}

/* One after the other within the time there is in all. */
static json_t *job_drain(struct job *job)
{
	uint64_t deadline_ns = loop_now_ns() + job->timeout_ns, left = 0;
	json_t *files = json_object();

	for (unsigned i = 0; i < job->count; i++) {
		struct ctl_entry *entry = job->storages[i];
		uint64_t now_ns = loop_now_ns();
		unsigned n = ctl_storage_of(entry)->ops->drain(
			entry->ctx, deadline_ns > now_ns ? deadline_ns - now_ns : 0);

		progress_add(&job->progress, 1);
		left += n;
		if (n)
			json_object_set_new(files, entry->name, json_integer(n));
	}
	if (left)
		return json_pack("{s:b, s:s, s:o}", "ok", 0, "error",
				 "the time was not enough; the log names the files", "left", files);
	json_decref(files);
	return answer_result(json_pack("{s:i}", "storages", (int)job->count));
}

static uint64_t cached_bytes(struct ctl_entry *entry)
{
	struct ctl_storage_stats *stats = calloc(1, sizeof(*stats));
	uint64_t bytes = 0;

	if (stats) {
		ctl_storage_of(entry)->ops->stats(entry->ctx, stats);
		bytes = stats->bytes;
	}
	free(stats);
	return bytes;
}

static json_t *job_drop(struct job *job)
{
	uint64_t before = 0, after = 0;

	for (unsigned i = 0; i < job->count; i++) {
		struct ctl_entry *entry = job->storages[i];

		before += cached_bytes(entry);
		ctl_storage_of(entry)->ops->drop(entry->ctx);
		after += cached_bytes(entry);
		progress_add(&job->progress, 1);
	}
	return answer_result(json_pack("{s:I, s:I}", "dropped_bytes",
				       (json_int_t)(before > after ? before - after : 0),
				       "left_bytes", (json_int_t)after));
}

static json_t *job_reload(const struct job *job)
{
	struct err *e = job->ctl->hooks.reload(job->ctl->hooks.ctx);
	json_t *answer;

	if (!e)
		return answer_result(json_object());
	answer = answer_error("%s", err_msg(e));
	err_free(e);
	return answer;
}

/* On the thread of ctl. */
static void job_end(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, end);
	struct connection *connection = job->connection;
	json_t *answer = job->answer;

	job->answer = NULL;
	job_free(job);
	if (!connection) {
		json_decref(answer);
		return;
	}
	connection_send(connection, answer);
	connection_resume(connection);
}

static void *job_run(void *arg)
{
	struct job *job = arg;
	struct ctl *ctl = job->ctl;

	pthread_setname_np(pthread_self(), "ovfs-job");
	progress_begin(&job->progress, kind_names[job->kind], "storages", "by ovfsctl");
	progress_set(&job->progress, 0, job->count);
	switch (job->kind) {
	case JOB_RELOAD:
		job->answer = job_reload(job);
		break;
	case JOB_FLUSH:
		job->answer = job_flush(job);
		break;
	case JOB_DRAIN:
		job->answer = job_drain(job);
		break;
	case JOB_DROP_CACHE:
		job->answer = job_drop(job);
		break;
	}
	progress_end(&job->progress);
	log_info("job", "command=%s ok=%d", kind_names[job->kind],
		 json_is_true(json_object_get(job->answer, "ok")));
	/* The storages may go from here on, whatever becomes of the answer. */
	for (unsigned i = 0; i < job->count; i++)
		ctl_entry_put(job->storages[i]);
	job->count = 0;
	pthread_mutex_lock(&ctl->lock);
	loop_post(ctl->loop, &job->end);
	ctl->jobs_running--;
	pthread_cond_broadcast(&ctl->changed);
	pthread_mutex_unlock(&ctl->lock);
	return NULL;
}

/* ---- Beginning ---- */

static bool job_take_place(struct ctl *ctl)
{
	bool free_place;

	pthread_mutex_lock(&ctl->lock);
	free_place = ctl->jobs_running < JOBS_MAX;
	if (free_place)
		ctl->jobs_running++;
	pthread_mutex_unlock(&ctl->lock);
	return free_place;
}

static void job_leave_place(struct ctl *ctl)
{
	pthread_mutex_lock(&ctl->lock);
	ctl->jobs_running--;
	pthread_cond_broadcast(&ctl->changed);
	pthread_mutex_unlock(&ctl->lock);
}

json_t *job_start(struct ctl *ctl, struct connection *connection, enum job_kind kind,
		  const json_t *names, uint64_t timeout_ns)
{
	struct job *job = calloc(1, sizeof(*job) + STORAGES_MAX * sizeof(job->storages[0]));
	json_t *answer = NULL;
	pthread_t thread;
	int error;

	if (!job)
		return answer_error("out of memory");
	job->ctl = ctl;
	job->connection = connection;
	job->kind = kind;
	job->timeout_ns = timeout_ns;
	job->end.run = job_end;
	if (kind != JOB_RELOAD)
		answer = job_find(job, names);
	else if (!ctl->hooks.reload)
		answer = answer_error("reload: this daemon cannot");
	if (!answer && job->too_many)
		answer = answer_error("more than %u storages: name some of them", STORAGES_MAX);
	if (!answer && !job_take_place(ctl))
		answer = answer_error("%u commands are under way already", JOBS_MAX);
	if (answer) {
		job_free(job);
		return answer;
	}
	connection_set_job(connection, job);
	error = pthread_create(&thread, NULL, job_run, job);
	if (error) {
		connection_set_job(connection, NULL);
		job_leave_place(ctl);
		job_free(job);
		return answer_error("cannot start a thread: %s", strerror(error));
	}
	pthread_detach(thread);
	return NULL;
}

void job_forget(struct job *job)
{
	job->connection = NULL;
}
