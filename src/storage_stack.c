/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/loop.h"
#include "store/layers/limit.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/throttle.h"
#include "store/layers/timeout.h"
#include "store/services/memory.h"
#include "store/services/s3/s3.h"

#define MS_NS 1000000u

/* For the answer of the first request, once a connection stands, however patient the
 * configuration is otherwise: a person or a boot waits for it. */
#define STACK_CHECK_NS (20000ull * MS_NS)

struct storage_stack {
	struct loop *loop;
	pthread_t thread;
	bool running;
	struct store *service;
	struct store *requests; /* metrics above the service */
	struct store *retry;
	struct store *top; /* the whole; metrics */
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

static struct err *stack_open_s3(struct storage_stack *stack, const struct ovfs_backend *config)
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

	return s3_new(&stack->service, stack->loop, &service);
}

static struct err *stack_open_memory(struct storage_stack *stack, const struct ovfs_backend *config)
{
	struct store_memory_options options = store_memory_defaults;

	options.bytes_max = config->storage.capacity;
	return store_memory_new(&stack->service, stack->loop, &options);
}

/* The layers, from the service outwards; stack->top is what there is so far. */
static struct err *stack_add_layers(struct storage_stack *stack, const struct ovfs_backend *config)
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

	stack->top = stack->service;
	e = store_metrics_new(&stack->requests, stack->top);
	if (!e) {
		stack->top = stack->requests;
		e = store_timeout_new(&stack->top, stack->top, &timeout);
	}
	if (!e)
		e = store_limit_new(&stack->top, stack->top, &limit);
	if (!e)
		e = store_throttle_new(&stack->top, stack->top, &throttle);
	if (!e)
		e = store_retry_new(&stack->retry, stack->top, &retry);
	if (!e) {
		stack->top = stack->retry;
		e = store_metrics_new(&stack->top, stack->top);
	}
	return e;
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
	bool s3 = config->storage.type == OVFS_STORAGE_S3;
	struct storage_stack *stack = calloc(1, sizeof(*stack));
	struct err *e;

	if (!stack)
		return err_errno(ENOMEM, "storage");
	e = loop_new(&stack->loop);
	if (!e)
		e = s3 ? stack_open_s3(stack, config) : stack_open_memory(stack, config);
	if (!e)
		e = stack_add_layers(stack, config);
	if (!e)
		e = stack_start(stack);
	if (!e && s3)
		e = s3_check(stack->service, stack_check_ms(config));
	if (e) {
		storage_stack_free(stack);
		return e;
	}
	*out = stack;
	return NULL;
}

struct store *storage_stack_store(struct storage_stack *stack)
{
	return stack->top;
}

void storage_stack_log(struct storage_stack *stack)
{
	for (unsigned op = 0; op < STORE_OPCODE_COUNT; op++) {
		struct store_metrics_opcode asked, sent;
		uint64_t operations = 0, attempts = 0;

		store_metrics_read(stack->top, op, &asked);
		store_metrics_read(stack->requests, op, &sent);
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

void storage_stack_stop(struct storage_stack *stack)
{
	store_retry_stop(stack->retry);
}

void storage_stack_free(struct storage_stack *stack)
{
	if (!stack)
		return;
	if (stack->running) {
		loop_stop(stack->loop);
		pthread_join(stack->thread, NULL);
	}
	store_free(stack->top ? stack->top : stack->service);
	loop_free(stack->loop);
	free(stack);
}
