/* SPDX-License-Identifier: Apache-2.0 */
#include "operate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "fuse/metrics.h"
#include "listener.h"

#define HTTP_BACKLOG 16

/* A reload may ask services and write what is dirty. */
#define RELOAD_WAIT_S 120u

/* A request that is under way for longer is logged while it is. */
#define HANG_NS 30000000000ull

struct operate {
	struct ctl *ctl;
	struct backends *backends;
	bool (*ask_reload)(void *ctx);
	void *ctx;
	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t changed;
	struct ctl_config_stats stats;
	bool ending;
};

/* ---- Sockets ---- */

/* "127.0.0.1:9953", "[::1]:9953": its form was checked with the configuration. */
static struct err *parse_address(const char *listen, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	const char *colon = strrchr(listen, ':');
	char host[64];
	int n = colon ? (int)(colon - listen) : 0;
	unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

	memset(out, 0, sizeof(*out));
	if (n > 0 && n < (int)sizeof(host) && port <= UINT16_MAX) {
		snprintf(host, sizeof(host), "%.*s", n, listen);
		*in = (struct sockaddr_in){ .sin_family = AF_INET,
					    .sin_port = htons((uint16_t)port) };
		*len = sizeof(*in);
		if (inet_pton(AF_INET, host, &in->sin_addr) == 1)
			return NULL;
		*in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
					      .sin6_port = htons((uint16_t)port) };
		*len = sizeof(*in6);
		if (host[0] == '[' && host[n - 1] == ']') {
			host[n - 1] = '\0';
			if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1)
				return NULL;
		}
	}
	return err_new("metrics_settings.listen: \"%s\" is no address and port", listen);
}

static struct err *listen_tcp(int *out, const char *listen_at)
{
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_storage addr;
	socklen_t len;
	struct err *e = parse_address(listen_at, &addr, &len);
	int on = 1;

	if (e)
		return e;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(errno, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&addr, len) < 0 || listen(fd, HTTP_BACKLOG) < 0)
		return err_errno(errno, "metrics_settings.listen: %s", listen_at);
	*out = STEAL_FD(fd);
	return NULL;
}

static struct err *open_unix(int *fd, char **path, const char *at, gid_t gid)
{
	struct err *e = listener_open(fd, at, gid);

	if (e)
		return e;
	*path = strdup(at);
	if (*path)
		return NULL;
	unlink(at);
	return err_errno(ENOMEM, "socket");
}

struct err *operate_open(struct operate_sockets *out, const struct ovfs_config *config)
{
	const char *listen_at = config->metrics.listen;
	struct err *e = NULL;

	*out = (struct operate_sockets){ .control_fd = CTL_FD_NONE, .metrics_fd = CTL_FD_NONE };
	if (config->ctl.path)
		e = open_unix(&out->control_fd, &out->control_path, config->ctl.path,
			      config->ctl.gid);
	if (!e && listen_at && strncmp(listen_at, "unix:", 5) == 0)
		e = open_unix(&out->metrics_fd, &out->metrics_path, listen_at + 5,
			      OVFS_SOCKET_GID_NONE);
	else if (!e && listen_at)
		e = listen_tcp(&out->metrics_fd, listen_at);
	if (e) {
		operate_close(out);
		operate_remove(out);
	}
	return e;
}

static void close_fd(int *fd)
{
	if (*fd != CTL_FD_NONE)
		close(*fd);
	*fd = CTL_FD_NONE;
}

void operate_close(struct operate_sockets *s)
{
	close_fd(&s->control_fd);
	close_fd(&s->metrics_fd);
}

static void remove_file(char **path)
{
	if (*path && unlink(*path) < 0 && errno != ENOENT)
		log_warn("socket_not_removed", "path=\"%s\" error=\"%s\"", *path, strerror(errno));
	free(*path);
	*path = NULL;
}

void operate_remove(struct operate_sockets *s)
{
	remove_file(&s->control_path);
	remove_file(&s->metrics_path);
}

/* ---- What ctl asks for ---- */

/* Waits for the next one that ends, which may be one that was under way. */
static struct err *hook_reload(void *ctx)
{
	struct operate *o = ctx;
	struct timespec until;
	struct err *e = NULL;
	uint64_t before;
	int late = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RELOAD_WAIT_S;
	pthread_mutex_lock(&o->lock);
	before = o->stats.reloads;
	if (!o->ask_reload(o->ctx))
		e = err_new("there is no configuration file to be loaded");
	while (!e && !late && !o->ending && o->stats.reloads == before)
		late = pthread_cond_timedwait(&o->changed, &o->lock, &until);
	if (!e && o->stats.reloads == before)
		e = o->ending ? err_new("the daemon is ending")
			      : err_new("no answer for %u s; see the log", RELOAD_WAIT_S);
	else if (!e && o->stats.error[0])
		e = err_new("%s", o->stats.error);
	pthread_mutex_unlock(&o->lock);
	return e;
}

static void hook_config(void *ctx, struct ctl_config_stats *out)
{
	struct operate *o = ctx;

	pthread_mutex_lock(&o->lock);
	*out = o->stats;
	pthread_mutex_unlock(&o->lock);
}

static void hook_pool(void *ctx, struct ctl_pool_stats *out)
{
	struct operate *o = ctx;
	uint32_t sizes[POOL_CLASSES_MAX];
	struct pool_usage usage;

	out->classes = backends_usage(o->backends, &usage, sizes);
	if (!out->classes)
		return;
	out->arena = usage.arena;
	out->free = usage.free;
	out->evicted = usage.evicted;
	for (unsigned i = 0; i < out->classes; i++)
		out->class[i] = (struct ctl_pool_class){ .block_size = sizes[i],
							 .used = usage.blocks[i],
							 .free = usage.free_blocks[i] };
}

_Static_assert(POOL_CLASSES_MAX <= 8, "struct ctl_pool_stats has room for them");

void operate_loaded(struct operate *o, unsigned generation, const struct ovfs_config *config,
		    const char *error)
{
	if (!o)
		return;
	pthread_mutex_lock(&o->lock);
	if (o->stats.generation)
		o->stats.reloads++;
	snprintf(o->stats.error, sizeof(o->stats.error), "%s", error ? error : "");
	if (error) {
		o->stats.failures++;
	} else {
		o->stats.generation = generation;
		o->stats.loaded_s = time(NULL);
		fuse_set_slow(config->log.slow_request_ns);
		log_set_level(config->log.level);
	}
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

/* ---- Life ---- */

struct err *operate_new(struct operate **out, const struct operate_config *config)
{
	struct operate *o = calloc(1, sizeof(*o));
	struct ctl_config ctl = {
		.control_fd = config->sockets->control_fd,
		.metrics_fd = config->sockets->metrics_fd,
		.version = OVFS_VERSION,
		.loop = config->loop,
		.gid = config->gid,
		.hang_ns = HANG_NS,
	};
	struct ctl_hooks hooks = {
		.ctx = o,
		.reload = hook_reload,
		.config_stats = hook_config,
		.pool_stats = hook_pool,
	};
	struct err *e;

	if (!o)
		return err_errno(ENOMEM, "control");
	config->sockets->control_fd = config->sockets->metrics_fd = CTL_FD_NONE;
	o->backends = config->backends;
	o->ask_reload = config->ask_reload;
	o->ctx = config->ctx;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->changed, NULL);
	operate_loaded(o, 1, config->config, NULL);
	e = ctl_new(&o->ctl, &ctl, &hooks);
	if (e) {
		operate_free(o);
		return e;
	}
	*out = o;
	return NULL;
}

void operate_free(struct operate *o)
{
	if (!o)
		return;
	pthread_mutex_lock(&o->lock);
	o->ending = true;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
	ctl_free(o->ctl);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

struct ctl *operate_ctl(struct operate *o)
{
	return o->ctl;
}
