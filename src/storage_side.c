/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_side.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/filefs/filefs.h"
#include "store/layers/limit.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/throttle.h"
#include "store/layers/timeout.h"
#include "store/services/memory.h"
#include "store/services/s3/s3.h"

#define MS_NS 1000000u

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

void side_free(struct stack_side *side, bool service)
{
	struct store *top = side->top ? side->top : side->service;

	if (!service && side->requests)
		side->requests->next = NULL;
	if (service || side->requests)
		store_free(top);
	free(side);
}

struct err *side_new(struct stack_side **out, struct loop *loop, struct filefs_data *files,
		     const struct ovfs_backend *config, const struct stack_side *current)
{
	const bool s3 = config->storage.type == OVFS_STORAGE_S3;
	struct stack_side *side = calloc(1, sizeof(*side));
	struct err *e = NULL;

	if (!side)
		return err_errno(ENOMEM, "storage");
	list_init(&side->link);
	if (s3)
		e = side_open_s3(side, loop, config);
	else if (current)
		side->service = current->service;
	else if (files)
		side->service = filefs_data_store(files);
	else
		e = side_open_memory(side, loop, config);
	if (!e)
		e = files ? side_add_metrics(side) : side_add_layers(side, config);
	if (e) {
		side_free(side, s3 || !current);
		return e;
	}
	*out = side;
	return NULL;
}
