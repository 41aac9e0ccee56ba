/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of src/ctl share; nobody else includes it.
 *
 *	ctl.c		life, what is registered, the look at what hangs
 *	server.c	the control socket: connections, lines
 *	command.c	a line -> a command -> an answer, or a job
 *	job.c		commands that take long, on threads of their own
 *	status.c	answers: JSON
 *	metrics.c	the same for Prometheus
 *	http.c		/metrics and /healthz
 */
#ifndef OVFS_CTL_INTERNAL_H
#define OVFS_CTL_INTERNAL_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "ctl/ctl.h"

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull

struct http;
struct server;
struct job;

/* Something registered. Stays in its list, and lives, while somebody uses it. */
struct ctl_entry {
	struct ctl *ctl;
	void *ctx;
	char name[CTL_NAME_MAX];
	/* Under ctl->lock. */
	struct list link;
	unsigned users;
	bool leaving; /* takes no new users */
};

struct ctl_mount {
	struct ctl_entry entry;
	const struct ctl_mount_ops *ops;
};

struct ctl_storage {
	struct ctl_entry entry;
	const struct ctl_storage_ops *ops;
};

/* The control loop is asked for a sign of life; outlives ctl for as long as it is asked. */
struct heart {
	struct loop_task task;
	atomic_uint refs;
	_Atomic bool asked;
	_Atomic uint64_t seen_ns; /* of the last sign */
};

struct ctl {
	struct ctl_config config;
	struct ctl_hooks hooks;
	uint64_t started_ns;
	int64_t started_s; /* since 1970 */
	struct loop *loop;
	pthread_t thread;
	bool running;

	pthread_mutex_t lock;	/* covers down to jobs_running */
	pthread_cond_t changed; /* an entry has no user any more, or no job runs */
	struct list mounts, storages;
	unsigned jobs_running;

	/* The thread's. */
	struct server *server;
	struct http *http;
	struct loop_timer watch;
	struct heart *heart;
};

/* ---- ctl.c ---- */

/*
 * The entry of @list after @prev (NULL: the first), for the caller to use; @prev is put back.
 * NULL after the last. To stop before: ctl_entry_put().
 */
struct ctl_entry *ctl_entry_next(struct ctl *ctl, struct list *list, struct ctl_entry *prev);
struct ctl_entry *ctl_entry_find(struct ctl *ctl, struct list *list, const char *name);
void ctl_entry_put(struct ctl_entry *entry);

/* How long the control loop has given no sign of life; 0 while it does. */
uint64_t ctl_silent_ns(const struct ctl *ctl);

#define ctl_for_each(entry, ctl, list)                                                             \
	for (struct ctl_entry *entry = ctl_entry_next(ctl, list, NULL); entry;                     \
	     entry = ctl_entry_next(ctl, list, entry))

static inline struct ctl_mount *ctl_mount_of(struct ctl_entry *entry)
{
	return container_of(entry, struct ctl_mount, entry);
}

static inline struct ctl_storage *ctl_storage_of(struct ctl_entry *entry)
{
	return container_of(entry, struct ctl_storage, entry);
}

/* ---- server.c: on the thread of ctl ---- */

struct connection;

/* @listen_fd is the server's from now on, also on failure. */
struct err *server_new(struct server **out, struct ctl *ctl, int listen_fd);
/* No job runs for a connection. Accepts NULL. */
void server_free(struct server *server);

/* Sends @line, which is taken over, and a newline. */
void connection_send(struct connection *connection, json_t *line);
/* The connection's job has ended: it reads on. */
void connection_resume(struct connection *connection);

/* ---- command.c ---- */

/*
 * Acts on one line. The answer, or NULL when it comes later: then a job has begun, which holds
 * @connection.
 */
json_t *command_run(struct ctl *ctl, struct connection *connection, const char *line, size_t len);

/* {"ok": false, "error": ...} */
json_t *answer_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* {"ok": true, "result": @result}, which is taken over. */
json_t *answer_result(json_t *result);

/* ---- job.c ---- */

enum job_kind { JOB_RELOAD, JOB_FLUSH, JOB_DRAIN, JOB_DROP_CACHE };

/*
 * Begins a job for @connection. @names: of mounts or storages, a JSON array of strings; NULL for
 * all. NULL; or the answer that says why not.
 */
json_t *job_start(struct ctl *ctl, struct connection *connection, enum job_kind kind,
		  const json_t *names, uint64_t timeout_ns) __attribute__((warn_unused_result));
/* The client is gone: nobody waits for the answer. */
void job_forget(struct job *job);

struct job *connection_job(const struct connection *connection);
void connection_set_job(struct connection *connection, struct job *job);

/* What is under way, as an array: jobs of ours and of others. */
json_t *job_progress(void);

/* ---- status.c ---- */

json_t *status_all(struct ctl *ctl);
json_t *status_requests(struct ctl *ctl);
json_t *status_dirty(struct ctl *ctl, unsigned max);
/* NULL: there is no such mount. */
json_t *status_inode(struct ctl *ctl, const char *mount, uint64_t nodeid);

/* ---- metrics.c ---- */

/* All of them, in Prometheus' text format, for free(). NULL for lack of memory. */
char *metrics_text(struct ctl *ctl, size_t *len);

/* ---- http.c: on the thread of ctl ---- */

struct err *http_new(struct http **out, struct ctl *ctl, int listen_fd);
void http_free(struct http *http);

#endif
