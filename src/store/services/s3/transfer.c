/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl says which sockets and which timer it wants watched, the loop tells it what
 * happened. It must not be entered again from its own callbacks: therefore transfers are started,
 * cancelled and ended by wire_run() alone, which never runs inside of itself or of libcurl.
 *
 * libcurl connects, and its resolver has a thread for each name that it looks up:
 * #syscalls socket connect sendto recvfrom sendmsg recvmsg sendmmsg poll ppoll
 * #syscalls getsockname getpeername setsockopt getsockopt bind shutdown socketpair
 * #syscalls fcntl ioctl uname newfstatat
 * and reads the resolver's files, as OpenSSL does its own:
 * #syscalls openat access lseek fstat
 */
#include "store/services/s3/transfer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"

#define NSEC_PER_MSEC 1000000ull
#define WIRE_BUFFER (256L << 10)
#define WIRE_CONNECTION_AGE 100L /* seconds that an idle connection is kept */

struct s3_wire_slot {
	struct list link; /* in wire->free while there is no transfer */
	struct s3_transfer *transfer;
	CURL *easy;
	char error[CURL_ERROR_SIZE];
};

struct wire_socket {
	struct loop_fd entry;
	struct s3_wire *wire;
	struct wire_socket *next; /* in wire->sockets while unused */
};

struct s3_wire {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	struct s3_wire_options options;
	char *proxy;

	struct list waiting; /* s3_transfer.link: for a connection */
	struct list ending;  /* cancelled, done() to come */
	struct list free;    /* s3_wire_slot.link */
	struct s3_wire_slot *slots;
	struct wire_socket *sockets;
	bool running;	  /* inside wire_run() or libcurl */
	atomic_uint busy; /* slots with a transfer: for those who look */
};

static void wire_run(struct s3_wire *wire);

/* ---- Sockets and the timer ---- */

static void wire_act(struct s3_wire *wire, curl_socket_t fd, int action)
{
	int left;

	wire->running = true;
	curl_multi_socket_action(wire->multi, fd, action, &left);
	wire->running = false;
	wire_run(wire);
}

static void socket_ready(struct loop_fd *entry, uint32_t events)
{
	struct wire_socket *socket = container_of(entry, struct wire_socket, entry);
	int action = 0;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		action |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		action |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		action |= CURL_CSELECT_ERR;
	wire_act(socket->wire, entry->fd, action);
}

static void timer_expired(struct loop_timer *timer)
{
	wire_act(container_of(timer, struct s3_wire, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	struct s3_wire *wire = arg;

	(void)multi;
	if (timeout_ms < 0)
		loop_timer_disarm(&wire->timer);
	else
		loop_timer_arm(wire->loop, &wire->timer, (uint64_t)timeout_ms * NSEC_PER_MSEC);
	return 0;
}

static struct wire_socket *socket_get(struct s3_wire *wire)
{
	struct wire_socket *socket = wire->sockets;

	if (socket)
		wire->sockets = socket->next;
	else
		socket = calloc(1, sizeof(*socket));
	if (socket)
		socket->wire = wire;
	return socket;
}

static void socket_put(struct s3_wire *wire, struct wire_socket *socket)
{
	socket->next = wire->sockets;
	wire->sockets = socket;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	static const uint32_t events[] = { [CURL_POLL_IN] = EPOLLIN,
					   [CURL_POLL_OUT] = EPOLLOUT,
					   [CURL_POLL_INOUT] = EPOLLIN | EPOLLOUT };
	struct s3_wire *wire = arg;
	struct wire_socket *socket = socket_arg;
	int err;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (socket) {
			loop_fd_remove(wire->loop, &socket->entry);
			socket_put(wire, socket);
		}
		return 0;
	}
	if (what < CURL_POLL_IN || what > CURL_POLL_INOUT)
		return 0;
	if (socket)
		return loop_fd_modify(wire->loop, &socket->entry, events[what]) ? -1 : 0;
	socket = socket_get(wire);
	if (!socket)
		return -1;
	err = loop_fd_add(wire->loop, &socket->entry, fd, events[what], socket_ready);
	if (err) {
		log_error("s3_socket_failed", "error=\"%s\"", strerror(-err));
		socket_put(wire, socket);
		return -1;
	}
	curl_multi_assign(wire->multi, fd, socket);
	return 0;
}

/* ---- From waiting to done ---- */

static int error_of_code(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static void transfer_end(struct s3_transfer *transfer, int error)
{
	struct s3_wire *wire = transfer->wire;
	struct s3_wire_slot *slot = transfer->slot;

	list_remove(&transfer->link);
	transfer->error_text = slot ? slot->error : "";
	transfer->slot = NULL;
	transfer->busy = false;
	if (slot) {
		slot->transfer = NULL;
		atomic_fetch_sub_explicit(&wire->busy, 1, memory_order_relaxed);
		/* At the front: what is in the processor's caches goes first. */
		list_push_front(&wire->free, &slot->link);
	}
	transfer->ops->done(transfer, error);
}

/* Like libcurl's own repetition, which covers fewer cases: a body that was half sent. */
static bool transfer_repeat(struct s3_wire *wire, struct s3_transfer *transfer, CURLcode code)
{
	long connects = 1;

	if (!transfer->repeatable || transfer->repeated || transfer->cancelled ||
	    transfer->status || transfer->verdict)
		return false;
	if (code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING)
		return false;
	curl_easy_getinfo(transfer->slot->easy, CURLINFO_NUM_CONNECTS, &connects);
	if (connects != 0)
		return false;
	transfer->repeated = true;
	transfer->unsent = transfer->body;
	return curl_multi_add_handle(wire->multi, transfer->slot->easy) == CURLM_OK;
}

/* libcurl's own view of the end, and ours of what made it so. */
static void wire_reap_one(struct s3_wire *wire, CURL *easy, CURLcode code)
{
	struct s3_transfer *transfer = NULL;
	struct s3_wire_slot *slot;
	int error = error_of_code(code);

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&slot);
	transfer = slot->transfer;
	curl_multi_remove_handle(wire->multi, easy);
	if (transfer_repeat(wire, transfer, code))
		return;
	transfer->curl_code = code;
	if (transfer->verdict == S3_TRANSFER_ENOUGH)
		error = 0;
	else if (transfer->verdict)
		error = transfer->verdict;
	else if (error && transfer->cancelled)
		error = -ECANCELED;
	else if (!error && !transfer->answered)
		error = -EIO;
	transfer_end(transfer, error);
}

static bool wire_reap(struct s3_wire *wire)
{
	bool any = false;
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(wire->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		wire_reap_one(wire, message->easy_handle, message->data.result);
		any = true;
	}
	return any;
}

static bool wire_end_cancelled(struct s3_wire *wire)
{
	bool any = false;

	while (!list_empty(&wire->ending)) {
		struct s3_transfer *transfer =
			list_entry(wire->ending.next, struct s3_transfer, link);

		if (transfer->slot)
			curl_multi_remove_handle(wire->multi, transfer->slot->easy);
		transfer_end(transfer, -ECANCELED);
		any = true;
	}
	return any;
}

static void slot_set_method(CURL *easy, const struct s3_transfer *transfer)
{
	curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); /* forgets the one before */
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
	if (transfer->has_body) {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)transfer->body_len);
		if (strcmp(transfer->method, "PUT") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->method);
	} else if (strcmp(transfer->method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (strcmp(transfer->method, "GET") != 0) {
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer->method);
	}
}

static void transfer_begin(struct s3_wire *wire, struct s3_transfer *transfer)
{
	struct s3_wire_slot *slot = list_entry(wire->free.next, struct s3_wire_slot, link);
	CURL *easy = slot->easy;
	int err = transfer->ops->prepare(transfer);

	if (err || transfer->cancelled) {
		transfer_end(transfer, err ? err : -ECANCELED);
		return;
	}
	list_remove(&slot->link);
	atomic_fetch_add_explicit(&wire->busy, 1, memory_order_relaxed);
	slot->transfer = transfer;
	slot->error[0] = '\0';
	transfer->slot = slot;
	transfer->unsent = transfer->body;
	slot_set_method(easy, transfer);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	if (curl_easy_setopt(easy, CURLOPT_URL, transfer->url) ||
	    curl_multi_add_handle(wire->multi, easy))
		transfer_end(transfer, -ENOMEM);
}

static bool wire_begin_waiting(struct s3_wire *wire)
{
	bool any = false;

	while (!list_empty(&wire->waiting) && !list_empty(&wire->free)) {
		struct s3_transfer *transfer =
			list_entry(wire->waiting.next, struct s3_transfer, link);

		list_remove(&transfer->link);
		transfer_begin(wire, transfer);
		any = true;
	}
	return any;
}

static void wire_run(struct s3_wire *wire)
{
	bool any;

	if (wire->running)
		return;
	wire->running = true;
	do {
		any = wire_reap(wire);
		any |= wire_end_cancelled(wire);
		any |= wire_begin_waiting(wire);
	} while (any);
	wire->running = false;
}

void s3_wire_usage(const struct s3_wire *wire, unsigned *busy, unsigned *max)
{
	*busy = atomic_load_explicit(&wire->busy, memory_order_relaxed);
	*max = wire->options.connections_max;
}

void s3_wire_start(struct s3_wire *wire, struct s3_transfer *transfer)
{
	transfer->wire = wire;
	transfer->slot = NULL;
	transfer->status = 0;
	transfer->curl_code = CURLE_OK;
	transfer->sent = 0;
	transfer->verdict = 0;
	transfer->cancelled = transfer->answered = false;
	transfer->begun = transfer->repeated = false;
	transfer->busy = true;
	list_push_back(&wire->waiting, &transfer->link);
	wire_run(wire);
}

void s3_wire_cancel(struct s3_wire *wire, struct s3_transfer *transfer)
{
	if (!transfer->busy || transfer->cancelled)
		return;
	transfer->cancelled = true;
	list_remove(&transfer->link);
	list_push_back(&wire->ending, &transfer->link);
	wire_run(wire);
}

/* ---- Life ---- */

bool s3_wire_configure(const struct s3_wire *wire, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	/* "": none, whatever the environment says. */
	if (curl_easy_setopt(easy, CURLOPT_PROXY, wire->proxy ? wire->proxy : ""))
		return false;
	return s3_tls_apply(wire->options.tls, easy);
}

static bool slot_setup(struct s3_wire *wire, struct s3_wire_slot *slot)
{
	CURL *easy = slot->easy = curl_easy_init();

	if (!easy || !s3_wire_configure(wire, easy))
		return false;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->error);
	s3_transfer_callbacks(easy);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, WIRE_BUFFER);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, WIRE_BUFFER);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, WIRE_CONNECTION_AGE);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)wire->options.connect_timeout_ms);
	/* Taking a transfer back does not wait for the resolver. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	list_push_back(&wire->free, &slot->link);
	return true;
}

static bool wire_setup(struct s3_wire *wire)
{
	uint32_t count = wire->options.connections_max;

	wire->multi = curl_multi_init();
	wire->slots = calloc(count, sizeof(*wire->slots));
	if (!wire->multi || !wire->slots)
		return false;
	curl_multi_setopt(wire->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(wire->multi, CURLMOPT_SOCKETDATA, wire);
	curl_multi_setopt(wire->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(wire->multi, CURLMOPT_TIMERDATA, wire);
	curl_multi_setopt(wire->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(wire->multi, CURLMOPT_MAXCONNECTS, (long)count);
	for (uint32_t i = 0; i < count; i++) {
		if (!slot_setup(wire, &wire->slots[i]))
			return false;
	}
	return true;
}

static CURLcode global_result;

static void global_init(void)
{
	global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct err *s3_wire_new(struct s3_wire **out, struct loop *loop,
			const struct s3_wire_options *options)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct s3_wire *wire = calloc(1, sizeof(*wire));
	bool has_proxy = options->proxy && *options->proxy;

	if (!wire)
		return err_errno(ENOMEM, "S3 connections");
	wire->loop = loop;
	wire->options = *options;
	list_init(&wire->waiting);
	list_init(&wire->ending);
	list_init(&wire->free);
	loop_timer_init(&wire->timer, timer_expired);
	wire->proxy = has_proxy ? strdup(options->proxy) : NULL;
	wire->options.proxy = wire->proxy;
	pthread_once(&once, global_init);
	if (global_result || (has_proxy && !wire->proxy) || !wire_setup(wire)) {
		s3_wire_free(wire);
		return err_new("S3 connections: libcurl does not start");
	}
	*out = wire;
	return NULL;
}

void s3_wire_free(struct s3_wire *wire)
{
	struct wire_socket *socket;

	if (!wire)
		return;
	for (uint32_t i = 0; wire->slots && i < wire->options.connections_max; i++)
		curl_easy_cleanup(wire->slots[i].easy);
	if (wire->multi)
		curl_multi_cleanup(wire->multi);
	loop_timer_disarm(&wire->timer);
	while ((socket = wire->sockets) != NULL) {
		wire->sockets = socket->next;
		free(socket);
	}
	free(wire->slots);
	free(wire->proxy);
	free(wire);
}
