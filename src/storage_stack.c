/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "fs/filefs/filefs.h"
#include "store/layers/limit.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/switch.h"
#include "store/layers/throttle.h"
#include "store/layers/timeout.h"
#include "store/services/memory.h"
#include "store/services/s3/s3.h"

#define MS_NS 1000000u

/* For the answer of the first request, once a connection stands, however patient the
 * configuration is otherwise: a person or a boot waits for it. */
#define STACK_CHECK_NS (20000ull * MS_NS)

/* What a reload exchanges: a service and its layers. */
struct stack_side {
	struct list link; /* storage_stack.sides */
	struct store *service;
	struct store *requests; /* metrics above the service */
	struct store *retry;	/* NULL: no layers; a disk has its own ways to be slow */
	struct store *top;
};

struct storage_stack {
	struct loop *loop;
	pthread_t thread;
	bool running;
	bool s3;
	struct filefs_data *files; /* of type fs */
	struct store *turn;	   /* the switch above the sides */
	struct store *top;	   /* the whole; metrics */
	struct stack_side *prepared;
	pthread_mutex_t lock; /* covers what follows */
	struct list sides;    /* the last one is current, others finish what they have */
	bool stopping;
	struct store_metrics_opcode gone[STORE_OPCODE_COUNT]; /* of sides that are no more */
	uint64_t gone_retries;
};

static const char *const checksum_names[] = {
	[OVFS_CHECKSUM_OFF] = "off",
	[OVFS_CHECKSUM_CRC32C] = "crc32c",
	[OVFS_CHECKSUM_CRC64NVME] = "crc64nvme",
	[OVFS_CHECKSUM_MD5] = "md5",
};

static const char *const encryption_names[] = {
	[OVFS_ENCRYPTION_BUCKET] = NULL,
	[OVFS_ENCRYPTION_AES256] = "AES256",
	[OVFS_ENCRYPTION_KMS] = "aws:kms",
	[OVFS_ENCRYPTION_KMS_DSSE] = "aws:kms:dsse",
};

static struct err *side_open_s3(struct stack_side *side, struct loop *loop,
				const struct ovfs_backend *config)
{
	const struct ovfs_s3 *s3 = &config->storage.s3;
	const struct s3_config service = {
		.root = config->storage.root,
		.bucket = s3->bucket,
		.endpoint = s3->endpoint,
		.region = s3->region,
		.enable_virtual_host_style = s3->enable_virtual_host_style,
		.profile = s3->profile,
		.access_key_id = s3->access_key_id,
		.secret_access_key = s3->secret_access_key,
		.session_token = s3->session_token,
		.role_arn = s3->role_arn,
		.external_id = s3->external_id,
		.role_session_name = s3->role_session_name,
		.assume_role_duration_seconds = s3->role_arn ? s3->assume_role_duration_seconds : 0,
		.disable_config_load = s3->disable_config_load,
		.disable_ec2_metadata = s3->disable_ec2_metadata,
		.skip_signature = s3->skip_signature,
		.allow_anonymous = s3->allow_anonymous,
		.server_side_encryption = encryption_names[s3->server_side_encryption],
		.server_side_encryption_aws_kms_key_id = s3->server_side_encryption_aws_kms_key_id,
		.server_side_encryption_bucket_key_enabled =
			s3->server_side_encryption_bucket_key_enabled,
		.server_side_encryption_customer_algorithm =
			s3->server_side_encryption_customer_algorithm,
		.server_side_encryption_customer_key = s3->server_side_encryption_customer_key,
		.server_side_encryption_customer_key_md5 =
			s3->server_side_encryption_customer_key_md5,
		.default_storage_class = s3->default_storage_class,
		.default_acl = s3->default_acl,
		.checksum_algorithm = checksum_names[s3->checksum_algorithm],
		.enable_request_payer = s3->enable_request_payer,
		.disable_list_objects_v2 = s3->disable_list_objects_v2,
		.disable_write_with_if_match = s3->disable_write_with_if_match,
		.disable_stat_with_override = s3->disable_stat_with_override,
		.delete_max_size = s3->delete_max_size,
		.ca_bundle = s3->ca_bundle,
		.client_certificate = s3->client_certificate,
		.client_key = s3->client_key,
		.proxy = s3->proxy,
		.connections_max = s3->connections_max,
		.connect_timeout_ms = (uint32_t)(s3->connect_timeout_ns / MS_NS),
		.sign_payload = s3->sign_payload,
	};

	return s3_new(&side->service, loop, &service);
}

static struct err *side_open_memory(struct stack_side *side, struct loop *loop,
				    const struct ovfs_backend *config)
{
	struct store_memory_options options = store_memory_defaults;

	options.bytes_max = config->storage.capacity;
	return store_memory_new(&side->service, loop, &options);
}

/* The layers, from the service outwards; side->top is what there is so far. */
static struct err *side_add_layers(struct stack_side *side, const struct ovfs_backend *config)
{
	const struct store_timeout_options timeout = {
		.silence_min_ns = config->timeout.silence_min_ns,
		.silence_max_ns = config->timeout.silence_max_ns,
		.server_max_ns = config->timeout.server_max_ns,
		.bytes_per_second_min = config->timeout.bytes_per_second_min,
	};
	const struct store_limit_options limit = {
		.in_flight_max = { [STORE_LIMIT_DATA] = config->limit.data_requests,
				   [STORE_LIMIT_METADATA] = config->limit.metadata_requests },
	};
	const struct store_throttle_options throttle = {
		.up.bytes_per_second = config->limit.upload_bandwidth,
		.down.bytes_per_second = config->limit.download_bandwidth,
	};
	const struct store_retry_options retry = {
		.attempts_max = config->retry.attempts,
		.pause_first_ns = config->retry.pause_first_ns,
		.pause_max_ns = config->retry.pause_max_ns,
		.total_ns = config->retry.total_ns,
	};
	struct err *e;

	side->top = side->service;
	e = store_metrics_new(&side->requests, side->top);
	if (!e) {
		side->top = side->requests;
		e = store_timeout_new(&side->top, side->top, &timeout);
	}
	if (!e)
		e = store_limit_new(&side->top, side->top, &limit);
	if (!e)
		e = store_throttle_new(&side->top, side->top, &throttle);
	if (!e)
		e = store_retry_new(&side->retry, side->top, &retry);
	if (!e)
		side->top = side->retry;
	return e;
}

/* Where no layers are wanted. */
static struct err *side_add_metrics(struct stack_side *side)
{
	struct err *e = store_metrics_new(&side->requests, side->service);

	if (!e)
		side->top = side->requests;
	return e;
}

/* Nothing is in flight in it. @service: it goes, too. */
static void side_free(struct stack_side *side, bool service)
{
	struct store *top = side->top ? side->top : side->service;

	if (!service && side->requests)
		side->requests->next = NULL;
	if (service || side->requests)
		store_free(top);
	free(side);
}

/*
 * A side for @config. A service in memory is its data, that of files their table: all sides have
 * the same, @current's.
 */
static struct err *side_new(struct stack_side **out, struct storage_stack *stack,
			    const struct ovfs_backend *config, const struct stack_side *current)
{
	struct stack_side *side = calloc(1, sizeof(*side));
	struct err *e = NULL;

	if (!side)
		return err_errno(ENOMEM, "storage");
	list_init(&side->link);
	if (stack->s3)
		e = side_open_s3(side, stack->loop, config);
	else if (current)
		side->service = current->service;
	else if (stack->files)
		side->service = filefs_data_store(stack->files);
	else
		e = side_open_memory(side, stack->loop, config);
	if (!e)
		e = stack->files ? side_add_metrics(side) : side_add_layers(side, config);
	if (e) {
		side_free(side, stack->s3 || !current);
		return e;
	}
	*out = side;
	return NULL;
}

/* ---- The whole ---- */

static struct stack_side *stack_current(struct storage_stack *stack)
{
	return list_entry(stack->sides.prev, struct stack_side, link);
}

static void metrics_add(struct store_metrics_opcode *sum, const struct store_metrics_opcode *one)
{
	sum->in_flight += one->in_flight;
	sum->requests += one->requests;
	sum->bytes_read += one->bytes_read;
	sum->bytes_written += one->bytes_written;
	sum->entries += one->entries;
	for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
		sum->results[r].count += one->results[r].count;
		sum->results[r].latency_ns += one->results[r].latency_ns;
		for (unsigned b = 0; b < STORE_METRICS_BUCKETS; b++)
			sum->results[r].buckets[b] += one->results[r].buckets[b];
	}
}

/* A side that was replaced has nothing in flight any more. */
static void stack_side_released(void *arg, struct store *top)
{
	struct storage_stack *stack = arg;
	struct stack_side *side = NULL;
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	list_for_each (link, &stack->sides) {
		side = list_entry(link, struct stack_side, link);
		if (side->top == top)
			break;
	}
	list_remove(&side->link);
	for (unsigned op = 0; op < STORE_OPCODE_COUNT; op++) {
		struct store_metrics_opcode one;

		store_metrics_read(side->requests, op, &one);
		metrics_add(&stack->gone[op], &one);
	}
	stack->gone_retries += store_retry_stats(side->retry).repeated;
	pthread_mutex_unlock(&stack->lock);
	side_free(side, stack->s3);
}

static struct err *stack_open(struct storage_stack *stack, const struct ovfs_backend *config)
{
	const struct store_switch_options turn = { .released = stack_side_released, .arg = stack };
	struct stack_side *side;
	struct err *e = side_new(&side, stack, config, NULL);

	if (e)
		return e;
	e = store_switch_new(&stack->turn, side->top, &turn);
	if (e) {
		side_free(side, true);
		return e;
	}
	list_push_back(&stack->sides, &side->link);
	stack->top = stack->turn;
	return store_metrics_new(&stack->top, stack->top);
}

static void *stack_run(void *arg)
{
	struct storage_stack *stack = arg;

	pthread_setname_np(pthread_self(), "ovfs-transfer");
	loop_run(stack->loop);
	return NULL;
}

static struct err *stack_start(struct storage_stack *stack)
{
	int error = pthread_create(&stack->thread, NULL, stack_run, stack);

	if (error)
		return err_errno(error, "transfer thread");
	stack->running = true;
	return NULL;
}

/* How long the check at start may take. */
static uint32_t stack_check_ms(const struct ovfs_backend *config)
{
	uint64_t ns = config->storage.s3.connect_timeout_ns +
		      MIN(config->timeout.silence_max_ns, STACK_CHECK_NS);

	if (config->retry.total_ns)
		ns = MIN(ns, config->retry.total_ns);
	return (uint32_t)MAX(ns / MS_NS, 1u);
}

struct err *storage_stack_new(struct storage_stack **out, const struct ovfs_backend *config)
{
	struct storage_stack *stack = calloc(1, sizeof(*stack));
	struct err *e;

	if (!stack)
		return err_errno(ENOMEM, "storage");
	list_init(&stack->sides);
	pthread_mutex_init(&stack->lock, NULL);
	stack->s3 = config->storage.type == OVFS_STORAGE_S3;
	e = loop_new(&stack->loop);
	if (!e && config->storage.type == OVFS_STORAGE_FS)
		e = filefs_data_new(&stack->files, stack->loop);
	if (!e)
		e = stack_open(stack, config);
	if (!e)
		e = stack_start(stack);
	if (!e && stack->s3)
		e = s3_check(stack_current(stack)->service, stack_check_ms(config));
	if (e) {
		storage_stack_free(stack);
		return e;
	}
	*out = stack;
	return NULL;
}

struct filefs_data *storage_stack_files(struct storage_stack *stack)
{
	return stack->files;
}

struct store *storage_stack_store(struct storage_stack *stack)
{
	return stack->top;
}

void storage_stack_asked(struct storage_stack *stack, enum store_opcode opcode,
			 struct store_metrics_opcode *out)
{
	store_metrics_read(stack->top, opcode, out);
}

void storage_stack_sent(struct storage_stack *stack, enum store_opcode opcode,
			struct store_metrics_opcode *out)
{
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	*out = stack->gone[opcode];
	list_for_each (link, &stack->sides) {
		struct store_metrics_opcode one;

		store_metrics_read(list_entry(link, struct stack_side, link)->requests, opcode,
				   &one);
		metrics_add(out, &one);
	}
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_usage(struct storage_stack *stack, struct storage_stack_usage *out)
{
	struct list *link;

	*out = (struct storage_stack_usage){ 0 };
	pthread_mutex_lock(&stack->lock);
	out->retries = stack->gone_retries;
	list_for_each (link, &stack->sides) {
		const struct stack_side *side = list_entry(link, struct stack_side, link);
		unsigned busy = 0, max = 0;

		out->retries += store_retry_stats(side->retry).repeated;
		if (stack->s3)
			s3_connections(side->service, &busy, &max);
		out->connections = max; /* the last one is current */
		out->connections_busy += busy;
	}
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_log(struct storage_stack *stack)
{
	for (unsigned op = 0; op < STORE_OPCODE_COUNT; op++) {
		struct store_metrics_opcode asked, sent;
		uint64_t operations = 0, attempts = 0;

		storage_stack_asked(stack, op, &asked);
		storage_stack_sent(stack, op, &sent);
		for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++) {
			operations += asked.results[r].count;
			attempts += sent.results[r].count;
		}
		if (operations + attempts + asked.in_flight == 0)
			continue;
		log_info("storage_requests",
			 "operation=%s operations=%llu ok=%llu in_flight=%llu attempts=%llu "
			 "requests=%llu bytes_read=%llu bytes_written=%llu entries=%llu",
			 store_opcode_name(op), (unsigned long long)operations,
			 (unsigned long long)asked.results[STORE_METRICS_OK].count,
			 (unsigned long long)asked.in_flight, (unsigned long long)attempts,
			 (unsigned long long)sent.requests, (unsigned long long)sent.bytes_read,
			 (unsigned long long)sent.bytes_written, (unsigned long long)sent.entries);
	}
}

static void side_stop(struct stack_side *side)
{
	if (side->retry)
		store_retry_stop(side->retry);
}

void storage_stack_stop(struct storage_stack *stack)
{
	struct list *link;

	pthread_mutex_lock(&stack->lock);
	stack->stopping = true;
	list_for_each (link, &stack->sides)
		side_stop(list_entry(link, struct stack_side, link));
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_free(struct storage_stack *stack)
{
	struct stack_side *current = NULL;

	if (!stack)
		return;
	filefs_data_free(stack->files);
	if (stack->running) {
		loop_stop(stack->loop);
		pthread_join(stack->thread, NULL);
	}
	if (!list_empty(&stack->sides)) {
		current = stack_current(stack);
		list_remove(&current->link);
	}
	store_free(stack->top);
	free(current);
	loop_free(stack->loop); /* releases what else there was */
	pthread_mutex_destroy(&stack->lock);
	free(stack);
}

/* ---- Reload ---- */

struct err *storage_stack_prepare(struct storage_stack *stack, const struct ovfs_backend *config)
{
	struct err *e;

	e = side_new(&stack->prepared, stack, config, stack_current(stack));
	if (e)
		return e;
	if (!store_switch_fits(stack->turn, stack->prepared->top))
		e = err_new("the service can do other things with these settings: they take a "
			    "restart");
	if (!e && stack->s3)
		e = s3_check(stack->prepared->service, stack_check_ms(config));
	if (e)
		storage_stack_discard(stack);
	return e;
}

static void stack_discard_run(void *arg)
{
	struct storage_stack *stack = arg;

	side_free(stack->prepared, stack->s3);
	stack->prepared = NULL;
}

void storage_stack_discard(struct storage_stack *stack)
{
	loop_call(stack->loop, stack_discard_run, stack);
}

static void stack_commit_run(void *arg)
{
	struct storage_stack *stack = arg;
	struct stack_side *side = stack->prepared;

	stack->prepared = NULL;
	if (store_switch_to(stack->turn, side->top) < 0) {
		log_error("storage_not_changed", "error=\"out of memory\"");
		side_free(side, stack->s3);
		return;
	}
	pthread_mutex_lock(&stack->lock);
	list_push_back(&stack->sides, &side->link);
	if (stack->stopping)
		side_stop(side);
	pthread_mutex_unlock(&stack->lock);
}

void storage_stack_commit(struct storage_stack *stack)
{
	loop_call(stack->loop, stack_commit_run, stack);
}
