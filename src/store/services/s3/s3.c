/* SPDX-License-Identifier: Apache-2.0 */
/* The S3 service: its life, and the life of a request. */
#include "store/services/s3/s3.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "store/services/s3/config.h"
#include "store/services/s3/internal.h"

#define S3_URL_MAX (S3_SIGN_TARGET_MAX + 1024)
#define S3_HEADER_LINES_MAX (64 << 10)
#define S3_BODY_MAX (16 << 20) /* 1,000 keys escaped, or 10,000 parts */
#define S3_KEPT_MAX (16 << 10)
#define S3_IDLE_MAX 64 /* requests kept for the next operations */

/* ---- Requests ---- */

static void request_free(struct s3_request *request)
{
	s3_xml_free(request->xml);
	s3_buffer_free(&request->url);
	s3_buffer_free(&request->lines);
	s3_buffer_free(&request->body);
	s3_buffer_free(&request->kept);
	free(request);
}

static struct s3_request *request_get(struct s3 *s3)
{
	struct list *idle = list_pop_front(&s3->idle);
	struct s3_request *request;

	if (idle) {
		s3->idle_count--;
		return list_entry(idle, struct s3_request, link);
	}
	request = calloc(1, sizeof(*request));
	if (!request)
		return NULL;
	request->s3 = s3;
	request->transfer.ops = &s3_transfer_ops;
	list_init(&request->link);
	list_init(&request->transfer.link);
	s3_buffer_init(&request->url, S3_URL_MAX);
	s3_buffer_init(&request->lines, S3_HEADER_LINES_MAX);
	s3_buffer_init(&request->body, S3_BODY_MAX);
	s3_buffer_init(&request->kept, S3_KEPT_MAX);
	return request;
}

static void request_put(struct s3_request *request)
{
	struct s3 *s3 = request->s3;

	s3_credentials_put(request->credentials);
	request->credentials = NULL;
	request->op = NULL;
	s3_buffer_reset(&request->kept);
	if (s3->idle_count == S3_IDLE_MAX) {
		request_free(request);
		return;
	}
	s3->idle_count++;
	list_push_front(&s3->idle, &request->link);
}

void s3_request_finish(struct s3_request *request, int result)
{
	struct store_op *op = request->op;

	op->service = NULL;
	request_put(request);
	store_op_complete(op, result);
}

/* ---- Digests ---- */

static void digest_ready(struct s3_digest *digest)
{
	struct s3_request *request = container_of(digest, struct s3_request, digest);

	request->digesting = false;
	request->digested = true;
	if (digest->error) {
		s3_request_finish(request, digest->error);
		return;
	}
	store_op_moved(request->op, 0);
	s3_request_send(request);
}

/* What has to be known of the data before the request can be put together: true when that is being
 * computed, and digest_ready() goes on. */
static bool request_digest(struct s3_request *request)
{
	const struct s3 *s3 = request->s3;
	const struct store_op *op = request->op;
	bool sends = op->opcode == STORE_PUT || op->opcode == STORE_PART;
	bool sha256 =
		!request->credentials->anonymous && (!s3->endpoint.tls || s3->config.sign_payload);

	if (request->digested || !sends || op->length == 0 ||
	    (!sha256 && s3->checksum == S3_CHECKSUM_OFF))
		return false;
	request->digest = (struct s3_digest){ .data = op->data,
					      .length = op->length,
					      .sha256 = sha256,
					      .checksum = s3->checksum,
					      .ready = digest_ready };
	request->digesting = true;
	s3_digest_start(s3->digests, &request->digest);
	return true;
}

void s3_request_send(struct s3_request *request)
{
	struct store_op *op = request->op;

	if (store_op_stopped(op)) {
		s3_request_finish(request, -ECANCELED);
		return;
	}
	if (request_digest(request))
		return;
	memset(&request->answer, 0, sizeof(request->answer));
	request->xml_used = request->decoded = request->cut = request->verify = false;
	request->xml_error = request->list_error = 0;
	request->expected = request->received = 0;
	request->last_key[0] = '\0';
	if (s3_properties_wanted(request))
		s3_buffer_reset(&request->kept);
	s3_wire_start(request->s3->wire, &request->transfer);
}

/* ---- Credentials ---- */

/* With credentials: the first request of an operation, or the one that was refused once more. */
static void request_go(struct s3_request *request)
{
	bool first = !request->begun;

	request->begun = true;
	if (!first || request->step != STEP_SINGLE)
		s3_request_send(request);
	else if (s3_delete_next(request) == 0)
		s3_request_finish(request, 0);
}

static void credentials_ready(struct s3_provider_wait *wait, struct s3_credentials *credentials,
			      int error)
{
	struct s3_request *request = container_of(wait, struct s3_request, wait);
	struct s3 *s3 = request->s3;

	request->waiting = false;
	s3_credentials_put(request->credentials);
	request->credentials = credentials;
	if (!error) {
		request_go(request);
		return;
	}
	if (s3->watched == request->op && !request->credentials_tried)
		s3->failure.no_credentials = true;
	if (wait->suspected && error != -ECANCELED)
		error = -EACCES; /* it was not the keys */
	s3_request_finish(request, error);
}

static void request_wait(struct s3_request *request, struct s3_credentials *refused, bool suspected)
{
	request->waiting = true;
	request->wait.suspected = suspected;
	request->wait.ready = credentials_ready;
	s3_provider_wait(request->s3->provider, &request->wait, refused);
}

void s3_request_renew(struct s3_request *request, bool suspected)
{
	request_wait(request, request->credentials, suspected);
}

/* ---- Operations ---- */

/* Answers from what is known without a request: 1, or 0 for no. */
static int submit_refuse(struct s3 *s3, struct store_op *op, int *result)
{
	bool conditional = op->if_absent || (op->if_match && *op->if_match);

	if (op->opcode == STORE_READ && op->done >= op->length) {
		*result = 0; /* all was there when the attempt before failed */
		return 1;
	}
	if (conditional && s3->unconditional &&
	    (op->opcode == STORE_PUT || op->opcode == STORE_COMMIT)) {
		*result = -EOPNOTSUPP;
		return 1;
	}
	return 0;
}

static void s3_submit(struct store *store, struct store_op *op)
{
	struct s3 *s3 = s3_of(store);
	struct s3_request *request;
	int result;

	if (submit_refuse(s3, op, &result)) {
		store_op_complete(op, result);
		return;
	}
	request = request_get(s3);
	if (!request) {
		store_op_complete(op, -ENOMEM);
		return;
	}
	request->op = op;
	op->service = request;
	memset(&op->meta, 0, sizeof(op->meta));
	request->step = s3_request_needs_source(op) ? STEP_SOURCE : STEP_MAIN;
	request->kept_used = request->region_tried = request->credentials_tried = false;
	request->digesting = request->digested = request->begun = false;
	request->source_size = request->key_index = 0;
	request->transfer.status = 0;
	request->credentials = s3_provider_get(s3->provider);
	if (op->opcode == STORE_DELETE_BATCH && !s3_delete_begin(request))
		request->step = STEP_SINGLE;
	if (!request->credentials)
		request_wait(request, NULL, false);
	else
		request_go(request);
}

static void s3_cancel(struct store *store, struct store_op *op)
{
	struct s3 *s3 = s3_of(store);
	struct s3_request *request = op->service;

	if (!request)
		return;
	if (request->digesting)
		return; /* s3_request_send() will find out, soon */
	if (request->waiting)
		s3_provider_cancel(s3->provider, &request->wait);
	else
		s3_wire_cancel(s3->wire, &request->transfer);
}

/* ---- Life ---- */

static void s3_free(struct store *store)
{
	struct s3 *s3 = s3_of(store);
	struct list *idle;

	s3_provider_free(s3->provider);
	s3_wire_free(s3->wire);
	s3_tls_free(s3->tls);
	s3_digests_free(s3->digests);
	s3_signer_free(s3->signer);
	while ((idle = list_pop_front(&s3->idle)) != NULL)
		request_free(list_entry(idle, struct s3_request, link));
	s3_config_free(&s3->config);
	OPENSSL_cleanse(s3, sizeof(*s3));
	free(s3);
}

static const struct store_ops s3_ops = {
	.name = "s3",
	.submit = s3_submit,
	.cancel = s3_cancel,
	.free = s3_free,
};

/* The limits are Amazon's; others have the same or larger ones. */
static void s3_set_caps(struct s3 *s3)
{
	const struct s3_config *config = &s3->config;
	bool conditional = !config->disable_write_with_if_match;
	uint32_t batch = STORE_DELETE_BATCH_MAX;

	if (config->batch_max_operations)
		batch = MIN(batch, config->batch_max_operations);
	if (config->delete_max_size)
		batch = MIN(batch, config->delete_max_size);
	s3->store.caps = (struct store_caps){
		.if_match = true,
		.write_if_match = conditional,
		.if_absent = conditional,
		/* Elsewhere these headers may be ignored without a word. */
		.delete_if_match = conditional && s3->endpoint.amazon,
		.copy_if_absent = conditional && s3->endpoint.amazon,
		.sessions = true,
		.copy = true,
		.copy_part = true,
		.start_after = true,
		.user_mtime = true,
		.write_id = true,
		.properties = true,
		.part_min = 5ull << 20,
		.part_max = 5ull << 30,
		.parts_max = 10000,
		.put_max = 5ull << 30,
		.copy_max = 5ull << 30,
		.delete_batch_max = batch > 1 ? batch : 0,
		.list_max = 1000,
	};
}

static void configure_curl(void *curl_easy, void *arg)
{
	s3_wire_configure(arg, curl_easy);
}

static struct err *s3_set_provider(struct s3 *s3)
{
	const struct s3_config *config = &s3->config;
	struct s3_provider_config wanted = {
		.profile = config->profile,
		.access_key_id = config->access_key_id,
		.secret_access_key = config->secret_access_key,
		.session_token = config->session_token,
		.role_arn = config->role_arn,
		.external_id = config->external_id,
		.role_session_name = config->role_session_name,
		.assume_role_duration_seconds = config->assume_role_duration_seconds,
		.region = config->region,
		.disable_config_load = config->disable_config_load,
		.disable_ec2_metadata = config->disable_ec2_metadata,
		.skip_signature = config->skip_signature,
		.allow_anonymous = config->allow_anonymous,
		.configure = configure_curl,
		.configure_arg = s3->wire,
	};

	return s3_provider_new(&s3->provider, &wanted, s3->store.loop);
}

static struct err *s3_setup(struct s3 *s3)
{
	const struct s3_config *config = &s3->config;
	struct s3_wire_options wire = {
		.connections_max = config->connections_max,
		.connect_timeout_ms = config->connect_timeout_ms,
		.proxy = config->proxy,
	};
	struct err *e;

	e = s3_endpoint_init(&s3->endpoint, s3_config_endpoint(config), config->bucket,
			     config->region, config->default_region,
			     config->enable_virtual_host_style);
	if (!e)
		e = s3_config_check(config, &s3->endpoint);
	if (!e)
		e = s3_config_root(config->root, s3->root);
	if (!e)
		e = s3_config_checksum(config, &s3->checksum);
	if (!e)
		e = s3_config_customer_key(config, s3->customer_key_md5);
	if (!e)
		e = s3_tls_new(&s3->tls, config->ca_bundle, config->client_certificate,
			       config->client_key, s3->endpoint.tls);
	wire.tls = s3->tls;
	if (!e)
		e = s3_wire_new(&s3->wire, s3->store.loop, &wire);
	if (!e && s3_signer_new(&s3->signer))
		e = err_new("the crypto library has no SHA-256");
	if (!e)
		e = s3_digests_new(&s3->digests, s3->store.loop, s3->signer);
	if (!e)
		e = s3_set_provider(s3);
	if (!e && !s3->endpoint.region_known && s3_provider_region(s3->provider))
		s3_endpoint_set_region(&s3->endpoint, s3_provider_region(s3->provider));
	return e;
}

void s3_connections(const struct store *service, unsigned *busy, unsigned *max)
{
	const struct s3 *s3 = container_of(service, struct s3, store);

	s3_wire_usage(s3->wire, busy, max);
}

struct err *s3_new(struct store **out, struct loop *loop, const struct s3_config *config)
{
	struct s3 *s3 = calloc(1, sizeof(*s3));
	struct err *e;

	if (!s3)
		return err_errno(ENOMEM, "S3 storage");
	store_init(&s3->store, &s3_ops, loop);
	list_init(&s3->idle);
	e = s3_config_copy(&s3->config, config);
	if (!e)
		e = s3_setup(s3);
	if (e) {
		s3_free(&s3->store);
		return err_wrap(e, "S3 storage");
	}
	s3_set_caps(s3);
	*out = &s3->store;
	return NULL;
}
