/* SPDX-License-Identifier: Apache-2.0 */
#include "reload_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "channel.h"
#include "notify.h"
#include "watch.h"

struct reload_host {
	struct loop *loop;
	struct host *host;
	const struct options *base;	  /* the command line */
	const struct ovfs_config *config; /* in effect */
	struct options current;		  /* what config is in, after a reload */
	struct options pending;		  /* was sent inside, and not answered */
	bool busy;			  /* ... there is one */
	bool again;			  /* the files changed meanwhile */
	bool asked;			  /* somebody did, and waits for an outcome */
	bool started, stopping;
	bool failed; /* the last one: to be tried again, be it the same */
	unsigned number;
	struct conf_files *seen; /* what was looked at last, good or not */
	struct watch *watch;
	int channel;
	struct loop_fd entry;
};

static void reload_host_changed(void *arg);

/* ---- Files ---- */

static void watch_files(struct reload_host *r, const struct conf_files *files)
{
	const char *here = conf_files_here(files);

	for (size_t i = 0; i < conf_files_count(files); i++) {
		const struct conf_file *f = conf_files_at(files, i);
		char path[8192];

		if (f->kind == CONF_GROUP)
			continue;
		if (snprintf(path, sizeof(path), "%s%s%s", f->path[0] == '/' ? "" : here,
			     f->path[0] == '/' ? "" : "/", f->path) < (int)sizeof(path))
			watch_add(r->watch, path, f->kind == CONF_FOLDER);
	}
}

/* Those of the last look, be it one that failed: the error may be in a file that was new. */
static void reload_host_watch(struct reload_host *r)
{
	struct err *e = NULL;

	if (!r->seen || !r->base->config_file || !r->config->reload.watch) {
		watch_free(r->watch);
		r->watch = NULL;
		return;
	}
	if (!r->watch)
		e = watch_new(&r->watch, r->loop, reload_host_changed, r);
	if (e) {
		log_warn("watch_failed", "error=\"%s\" hint=\"SIGHUP reloads\"", err_msg(e));
		err_free(e);
		return;
	}
	watch_begin(r->watch);
	watch_files(r, r->seen);
	watch_end(r->watch);
}

/* ---- What the new configuration takes of the host ---- */

static const struct ovfs_mount *find_mount(const struct ovfs_config *config, const char *name)
{
	for (size_t i = 0; i < config->mount_count; i++) {
		if (strcmp(config->mounts[i].name, name) == 0)
			return &config->mounts[i];
	}
	return NULL;
}

struct outgoing {
	struct channel_message message;
	int fds[CHANNEL_FDS_MAX];
	bool owned[CHANNEL_FDS_MAX]; /* to be closed once sent */
};

static struct err *outgoing_add(struct outgoing *out, size_t mount, size_t what, int fd, bool owned)
{
	unsigned at = out->message.fd_count;

	if (at == CHANNEL_FDS_MAX || mount > UINT16_MAX || what > UINT16_MAX) {
		if (owned)
			close(fd);
		return err_new("a reload can add %u sockets and directories, not more",
			       CHANNEL_FDS_MAX);
	}
	out->message.fd[at] = (struct channel_fd){ (uint16_t)mount, (uint16_t)what };
	out->fds[at] = fd;
	out->owned[at] = owned;
	out->message.fd_count++;
	return NULL;
}

static void outgoing_close(struct outgoing *out)
{
	for (unsigned i = 0; i < out->message.fd_count; i++) {
		if (out->owned[i])
			close(out->fds[i]);
	}
}

/* Whether a file of the host is to be seen inside. */
static bool is_shown(const struct host *host, const char *path)
{
	if (!path || path[0] != '/' || !host->isolation.stage[SANDBOX_MOUNT])
		return true;
	for (size_t i = 0; i < host->paths.count; i++) {
		if (strcmp(host->paths.path[i].path, path) == 0)
			return true;
	}
	return false;
}

/* What the sandbox, which is closed by now, has no room for. */
static struct err *check_sandbox(const struct reload_host *r, const struct ovfs_mount *then,
				 const struct ovfs_backend *part, const struct ovfs_backend *before)
{
	const struct sandbox_config *isolation = &r->host->isolation;
	const struct ovfs_s3 *s3 = &part->storage.s3;
	const char *const files[] = { s3->ca_bundle, s3->client_certificate, s3->client_key };
	enum ovfs_storage_type type = part->storage.type;

	if (type == OVFS_STORAGE_FS && !isolation->files)
		return err_new("mount %s: the daemon was started without a directory, and gave up "
			       "the right to serve one: that takes a restart",
			       then->name);
	if (type == OVFS_STORAGE_S3 && !isolation->network)
		return err_new("mount %s: the daemon was started without a storage behind the "
			       "network, and gave up the network: that takes a restart",
			       then->name);
	for (size_t i = 0; type == OVFS_STORAGE_S3 && i < ARRAY_SIZE(files); i++) {
		if (!is_shown(r->host, files[i]))
			return err_new("mount %s: %s is not to be seen from within the sandbox: "
				       "that takes a restart",
				       then->name, files[i]);
	}
	if (before && type == OVFS_STORAGE_FS && isolation->stage[SANDBOX_MOUNT] &&
	    !part->storage.readonly && host_is_sealed(r->host, then->name, part->storage.root))
		return err_new("mount %s: the directory is mounted read-only in the sandbox: to "
			       "make it writable takes a restart",
			       then->name);
	return NULL;
}

static struct err *add_part(struct reload_host *r, struct outgoing *out, size_t mount, size_t index)
{
	const struct ovfs_mount *then = &r->pending.config.mounts[mount];
	const struct ovfs_mount *now = find_mount(r->config, then->name);
	const struct ovfs_backend *part = storage_part(then, index), *before = NULL;
	struct sandbox_root root = { .path = part->storage.root,
				     .readonly = part->storage.readonly };
	struct err *e;

	if (now && !mount_is_other(now, then))
		before = storage_part_before(now, then, index);
	e = check_sandbox(r, then, part, before);
	if (e || before || part->storage.type != OVFS_STORAGE_FS)
		return e;
	e = host_check_root(then, root.path);
	if (!e)
		e = sandbox_open_root(&root, &r->host->isolation);
	if (!e && host_note_root(r->host, then->name, root.path, root.readonly) < 0) {
		close(root.fd);
		e = err_errno(ENOMEM, "directory %s", root.path);
	}
	return e ? e : outgoing_add(out, mount, CHANNEL_ROOT + index, root.fd, true);
}

static struct err *add_mount(struct reload_host *r, struct outgoing *out, size_t index)
{
	const struct ovfs_mount *then = &r->pending.config.mounts[index];
	struct err *e = NULL;
	int fd;

	for (size_t i = 0; i < storage_part_count(then) && !e; i++)
		e = add_part(r, out, index, i);
	for (size_t i = 0; i < then->socket.path.count && !e; i++) {
		e = host_want_socket(r->host, then, then->socket.path.item[i], &fd);
		if (!e && fd >= 0)
			e = outgoing_add(out, index, i, fd, false);
	}
	return e;
}

static struct err *send_pending(struct reload_host *r)
{
	struct outgoing *out = calloc(1, sizeof(*out));
	struct err *e = NULL;
	int fd, ret;

	if (!out)
		return err_errno(ENOMEM, "reload");
	out->message.type = CHANNEL_RELOAD;
	out->message.number = ++r->number;
	for (size_t i = 0; i < r->pending.config.mount_count && !e; i++)
		e = add_mount(r, out, i);
	if (!e)
		e = conf_files_send(r->pending.files, &fd);
	if (!e)
		e = outgoing_add(out, 0, CHANNEL_SNAPSHOT, fd, true);
	if (!e) {
		ret = channel_send(r->channel, &out->message, out->fds);
		e = ret < 0 ? err_errno(-ret, "cannot hand the configuration inside") : NULL;
	}
	outgoing_close(out);
	free(out);
	if (e)
		host_drop(r->host);
	return e;
}

/* ---- A look ---- */

static void reload_host_reject(struct reload_host *r, struct err *e)
{
	log_error("reload_failed", "error=\"%s\" effect=\"the daemon goes on as it is\"",
		  err_msg(e));
	notify_status(err_msg(e));
	channel_tell(r->channel, CHANNEL_REJECTED, err_msg(e));
	err_free(e);
	options_free(&r->pending);
	r->failed = true;
	notify_ready();
}

/* A copy of what was seen, to know the next time whether anything is new. */
static void reload_host_remember(struct reload_host *r, const struct conf_files *files)
{
	struct conf_files *copy = NULL;
	struct err *e;
	int fd;

	e = conf_files_send(files, &fd);
	if (!e) {
		e = conf_files_receive(&copy, fd);
		close(fd);
	}
	err_free(e);
	conf_files_free(r->seen);
	r->seen = copy;
}

/* @asked: by somebody, not by a change: a failure of last time is tried anew. */
static void reload_host_look(struct reload_host *r, bool asked)
{
	struct conf_files *files = conf_files_new();
	bool same;
	struct err *e;

	if (!files)
		return;
	e = options_reload(&r->pending, r->base, files);
	same = !e && r->seen && conf_files_equal(r->seen, r->pending.files);
	if (r->pending.files)
		reload_host_remember(r, r->pending.files);
	reload_host_watch(r);
	if (same && !asked && !r->failed) {
		options_free(&r->pending);
		return;
	}
	notify_reloading();
	if (!e)
		options_log_warnings(&r->pending);
	if (!e)
		e = send_pending(r);
	if (e) {
		reload_host_reject(r, e);
		return;
	}
	r->busy = true;
}

void reload_host_ask(struct reload_host *r)
{
	if (!r->started || r->stopping || r->busy)
		r->again = r->asked = true;
	else
		reload_host_look(r, true);
}

/* What came when it could not be done. */
static void reload_host_go_on(struct reload_host *r)
{
	const bool asked = r->asked;

	r->again = r->asked = false;
	reload_host_look(r, asked);
}

static void reload_host_changed(void *arg)
{
	struct reload_host *r = arg;

	if (!r->started || r->stopping || r->busy)
		r->again = true;
	else
		reload_host_look(r, false);
}

/* ---- What comes from inside ---- */

static void reload_host_result(struct reload_host *r, const struct channel_message *m)
{
	if (!r->busy || m->number != r->number)
		return;
	r->busy = false;
	r->failed = !m->good;
	if (m->good) {
		host_keep(r->host);
		options_free(&r->current);
		r->current = r->pending;
		r->pending = (struct options){ 0 };
		r->config = &r->current.config;
		r->host->isolation.stop_timeout_s = host_stop_timeout_s(r->config);
		reload_host_watch(r);
	} else {
		/* The other half has said why. */
		host_drop(r->host);
		options_free(&r->pending);
	}
	notify_status(m->text);
	notify_ready();
	if (r->again && !r->stopping)
		reload_host_go_on(r);
}

static void reload_host_message(struct reload_host *r, const struct channel_message *m)
{
	switch (m->type) {
	case CHANNEL_STARTED:
		r->started = true;
		notify_status(m->text);
		notify_ready();
		reload_host_go_on(r);
		break;
	case CHANNEL_STOPPING:
		reload_host_stopping(r);
		break;
	case CHANNEL_ALIVE:
		notify_alive();
		break;
	case CHANNEL_ASK:
		reload_host_ask(r);
		break;
	case CHANNEL_RESULT:
		reload_host_result(r, m);
		break;
	default:
		log_warn("channel_message_unknown", "type=%u", m->type);
	}
}

static void reload_host_ready(struct loop_fd *entry, uint32_t events)
{
	struct reload_host *r = container_of(entry, struct reload_host, entry);
	struct channel_message m;
	int fds[CHANNEL_FDS_MAX];
	int ret = channel_receive(r->channel, &m, fds);

	(void)events;
	if (ret == 0) {
		/* Nobody inside has any to give. */
		for (unsigned i = 0; i < m.fd_count; i++)
			close(fds[i]);
		reload_host_message(r, &m);
	} else if (ret != -EAGAIN) {
		loop_fd_remove(r->loop, &r->entry);
		r->stopping = true;
	}
}

/* ---- Life ---- */

struct err *reload_host_new(struct reload_host **out, const struct options *options,
			    const struct ovfs_config *config, struct host *host, int channel)
{
	struct reload_host *r = calloc(1, sizeof(*r));

	if (!r)
		return err_errno(ENOMEM, "reload");
	r->base = options;
	r->config = config;
	r->host = host;
	r->channel = channel;
	if (options->files)
		reload_host_remember(r, options->files);
	*out = r;
	return NULL;
}

void reload_host_start(struct reload_host *r, struct loop *loop)
{
	int ret;

	r->loop = loop;
	ret = loop_fd_add(loop, &r->entry, r->channel, EPOLLIN, reload_host_ready);
	if (ret < 0)
		log_error("reload_impossible", "error=\"%s\"", strerror(-ret));
}

void reload_host_stopping(struct reload_host *r)
{
	if (!r->stopping)
		notify_stopping();
	r->stopping = true;
	watch_free(r->watch);
	r->watch = NULL;
}

void reload_host_free(struct reload_host *r)
{
	if (!r)
		return;
	watch_free(r->watch);
	if (r->channel >= 0)
		close(r->channel);
	options_free(&r->current);
	options_free(&r->pending);
	conf_files_free(r->seen);
	free(r);
}
