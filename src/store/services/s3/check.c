/* SPDX-License-Identifier: Apache-2.0 */
/* The request at start, and what its failure means to who wrote the configuration. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "store/services/s3/internal.h"

#define SKEW_WORTH_NAMING 60 /* seconds */

#define CHECK_TRIES 3
#define CHECK_PAUSE_NS 250000000 /* the first; the next is twice as long */

struct check {
	struct store_op op;
	struct store_page page;
	struct s3 *s3;
	struct loop_timer timer;
	struct loop_task task;
	uint32_t timeout_ms;
	bool timed_out;
	pthread_mutex_t lock; /* covers done */
	pthread_cond_t cond;
	bool done;
};

/* ---- The words ---- */

static int64_t clock_skew(const struct s3_failure *failure)
{
	return failure->date_ns ? (int64_t)time(NULL) - failure->date_ns / 1000000000 : 0;
}

static struct err *explain_code(const struct s3 *s3, const char *code)
{
	const struct s3_config *config = &s3->config;
	const struct s3_endpoint *endpoint = &s3->endpoint;
	const char *id = config->access_key_id ? config->access_key_id : "that was found";
	int64_t skew = clock_skew(&s3->failure);

	if (strcmp(code, "InvalidAccessKeyId") == 0)
		return err_new("access_key_id: the service does not know the key id %s", id);
	if (strcmp(code, "SignatureDoesNotMatch") == 0)
		return err_new("secret_access_key: not the one of the access key id %s", id);
	if (strcmp(code, "RequestTimeTooSkewed") == 0)
		return err_new("the clock of this host is wrong: it differs from the service's by "
			       "%" PRId64 " s",
			       skew);
	if (strcmp(code, "NoSuchBucket") == 0)
		return err_new("bucket: there is no bucket \"%s\"", endpoint->bucket);
	if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "TokenRefreshRequired") == 0)
		return err_new("session_token: the credentials have expired");
	if (strcmp(code, "InvalidToken") == 0 || strcmp(code, "InvalidTokenId") == 0)
		return err_new("session_token: the service does not accept it");
	if (strcmp(code, "AuthorizationHeaderMalformed") == 0 ||
	    strcmp(code, "PermanentRedirect") == 0 || strcmp(code, "BucketRegionError") == 0)
		return err_new("region: \"%s\" is not that of the bucket \"%s\"", endpoint->region,
			       endpoint->bucket);
	if (strcmp(code, "AccessDenied") == 0 || strcmp(code, "AllAccessDisabled") == 0)
		return err_new("access denied: the credentials may not list the bucket \"%s\"",
			       endpoint->bucket);
	return NULL;
}

static struct err *explain_status(const struct s3 *s3)
{
	const struct s3_failure *failure = &s3->failure;
	const struct s3_endpoint *endpoint = &s3->endpoint;
	const char *said = failure->error.message;
	struct err *e = explain_code(s3, failure->error.code), *both;

	if (e) {
		both = err_new("%s (the service says \"%s\")", err_msg(e), said);
		err_free(said[0] ? e : both);
		return said[0] ? both : e;
	}
	if (!failure->error.code[0] && failure->status == 403)
		return err_new("access denied (403), without a reason");
	if (!failure->error.code[0])
		return err_new("endpoint: %s answers with status %u, and not as S3 does",
			       endpoint->host, failure->status);
	return err_new("the service refuses: %s (status %u): %s", failure->error.code,
		       failure->status, said);
}

static struct err *explain_connection(const struct s3 *s3)
{
	const struct s3_failure *failure = &s3->failure;
	const char *host = s3->endpoint.host, *text = failure->curl_text;

	switch (failure->curl_code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_new("endpoint: the name of %s does not resolve", host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return err_new("proxy: its name does not resolve: %s", text);
	case CURLE_COULDNT_CONNECT:
		return err_new("endpoint: %s%s does not accept connections: %s", host,
			       s3->config.proxy ? ", or the proxy," : "", text);
	case CURLE_OPERATION_TIMEDOUT:
		return err_new("endpoint: no answer from %s: %s", host, text);
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return err_new("endpoint: the certificate of %s is not to be trusted, see "
			       "ca_bundle: %s",
			       host, text);
	case CURLE_SSL_CERTPROBLEM:
		return err_new("client_certificate: %s", text);
	case CURLE_SSL_CONNECT_ERROR:
		return err_new("endpoint: %s does not speak TLS as expected: %s", host, text);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return err_new("endpoint: %s does not answer as an HTTP server does: %s", host,
			       text);
	default:
		return err_new("endpoint: %s: %s", host,
			       text[0] ? text : curl_easy_strerror(failure->curl_code));
	}
}

static struct err *explain(struct check *check)
{
	struct s3 *s3 = check->s3;
	struct err *e;

	if (check->timed_out)
		return err_new("endpoint: no answer from %s in %u ms", s3->endpoint.host,
			       check->timeout_ms);
	if (s3->failure.no_credentials) {
		e = s3_provider_error(s3->provider);
		return e ? e : err_errno(-check->op.result, "credentials");
	}
	if (s3->failure.status / 100 > 2 || s3->failure.error.code[0])
		return explain_status(s3);
	if (s3->failure.curl_code != CURLE_OK)
		return explain_connection(s3);
	return err_errno(-check->op.result, "endpoint: %s does not answer as S3 does",
			 s3->endpoint.host);
}

/* ---- The request ---- */

static void check_entry(struct store_op *op, const struct store_entry *entry)
{
	(void)op;
	(void)entry;
}

static void check_expired(struct loop_timer *timer)
{
	struct check *check = container_of(timer, struct check, timer);

	check->timed_out = true;
	store_cancel(&check->op);
}

static void check_complete(struct store_op *op)
{
	struct check *check = container_of(op, struct check, op);

	loop_timer_disarm(&check->timer);
	check->s3->watched = NULL;
	if (op->result == 0)
		check->timed_out = false;
	pthread_mutex_lock(&check->lock);
	check->done = true;
	pthread_cond_signal(&check->cond); /* locked: the waiter frees it all */
	pthread_mutex_unlock(&check->lock);
}

static void check_begin(struct loop_task *task)
{
	struct check *check = container_of(task, struct check, task);
	struct s3 *s3 = check->s3;

	memset(&s3->failure, 0, sizeof(s3->failure));
	s3->watched = &check->op;
	loop_timer_arm(s3->store.loop, &check->timer, check->timeout_ms * 1000000ull);
	store_submit(&s3->store, &check->op);
}

/* Nobody there, or nobody who has time: says nothing of the configuration but the endpoint. */
static bool check_absent(const struct check *check)
{
	const struct s3_failure *failure = &check->s3->failure;

	if (check->timed_out)
		return true;
	switch (failure->curl_code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
		return true;
	default:
		return failure->status >= 500 || failure->status == 429;
	}
}

/* A storm, or a cut connection: worth another try at once. */
static bool check_passing(const struct check *check)
{
	const struct s3_failure *failure = &check->s3->failure;

	if (check->timed_out)
		return false;
	return failure->status >= 500 || failure->status == 429 ||
	       failure->curl_code == CURLE_GOT_NOTHING || failure->curl_code == CURLE_RECV_ERROR ||
	       failure->curl_code == CURLE_PARTIAL_FILE;
}

/* One try. *@again: it failed for a reason that may pass. */
static struct err *check_once(struct store *service, uint32_t timeout_ms, bool *again, bool *absent)
{
	struct s3 *s3 = s3_of(service);
	struct check check = {
		.op = { .opcode = STORE_LIST,
			.key = "",
			.list = { .limit = 1, .entry = check_entry, .page = &check.page },
			.complete = check_complete },
		.s3 = s3,
		.task.run = check_begin,
		.timeout_ms = timeout_ms,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER,
	};

	loop_timer_init(&check.timer, check_expired);
	loop_post(s3->store.loop, &check.task);
	pthread_mutex_lock(&check.lock);
	while (!check.done)
		pthread_cond_wait(&check.cond, &check.lock);
	pthread_mutex_unlock(&check.lock);
	pthread_cond_destroy(&check.cond);
	pthread_mutex_destroy(&check.lock);
	*again = check.op.result && check_passing(&check);
	*absent = check.op.result && check_absent(&check);
	return check.op.result ? explain(&check) : NULL;
}

struct err *s3_check(struct store *service, uint32_t timeout_ms, bool *absent)
{
	struct timespec pause = { .tv_nsec = CHECK_PAUSE_NS };

	for (unsigned tries = 1;; tries++) {
		bool again;
		struct err *e = check_once(service, timeout_ms, &again, absent);

		if (!e || !again || tries == CHECK_TRIES)
			return e;
		err_free(e);
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 2;
	}
}
