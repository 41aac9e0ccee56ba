/* SPDX-License-Identifier: Apache-2.0 */
/* Which of two configurations of a storage mean the same, and how far. */
#include <string.h>

#include "backend.h"

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

#define SAME(member) (a->member == b->member)
#define SAME_TEXT(member) same_text(a->member, b->member)

bool backend_same_storage(const struct ovfs_backend *a, const struct ovfs_backend *b)
{
	if (!SAME(storage.type) || !SAME_TEXT(storage.root) || !SAME(storage.capacity))
		return false;
	return a->storage.type != OVFS_STORAGE_S3 || SAME_TEXT(storage.s3.bucket);
}

bool backend_same_place(const struct ovfs_backend *a, const struct ovfs_backend *b)
{
	return backend_same_storage(a, b) && SAME_TEXT(storage.s3.endpoint) &&
	       SAME_TEXT(storage.s3.region) && SAME(storage.s3.enable_virtual_host_style) &&
	       SAME_TEXT(storage.s3.ca_bundle) && SAME_TEXT(storage.s3.client_certificate) &&
	       SAME_TEXT(storage.s3.client_key) && SAME_TEXT(storage.s3.proxy);
}

static bool same_s3(const struct ovfs_s3 *a, const struct ovfs_s3 *b)
{
	return SAME_TEXT(bucket) && SAME_TEXT(endpoint) && SAME_TEXT(region) &&
	       SAME(enable_virtual_host_style) && SAME_TEXT(access_key_id) &&
	       SAME_TEXT(secret_access_key) && SAME_TEXT(session_token) && SAME_TEXT(profile) &&
	       SAME_TEXT(role_arn) && SAME_TEXT(external_id) && SAME_TEXT(role_session_name) &&
	       SAME(assume_role_duration_seconds) && SAME(disable_config_load) &&
	       SAME(disable_ec2_metadata) && SAME(skip_signature) && SAME(allow_anonymous) &&
	       SAME(server_side_encryption) && SAME_TEXT(server_side_encryption_aws_kms_key_id) &&
	       SAME(server_side_encryption_bucket_key_enabled) &&
	       SAME_TEXT(server_side_encryption_customer_algorithm) &&
	       SAME_TEXT(server_side_encryption_customer_key) &&
	       SAME_TEXT(server_side_encryption_customer_key_md5) &&
	       SAME_TEXT(default_storage_class) && SAME_TEXT(default_acl) &&
	       SAME(checksum_algorithm) && SAME(sign_payload) && SAME(enable_request_payer) &&
	       SAME(disable_list_objects_v2) && SAME(disable_write_with_if_match) &&
	       SAME(disable_stat_with_override) && SAME(delete_max_size) && SAME_TEXT(ca_bundle) &&
	       SAME_TEXT(client_certificate) && SAME_TEXT(client_key) && SAME_TEXT(proxy) &&
	       SAME(connections_max) && SAME(connect_timeout_ns);
}

bool backend_same_stack(const struct ovfs_backend *a, const struct ovfs_backend *b)
{
	return backend_same_storage(a, b) && same_s3(&a->storage.s3, &b->storage.s3) &&
	       SAME(retry.attempts) && SAME(retry.pause_first_ns) && SAME(retry.pause_max_ns) &&
	       SAME(retry.total_ns) && SAME(timeout.silence_min_ns) &&
	       SAME(timeout.silence_max_ns) && SAME(timeout.server_max_ns) &&
	       SAME(timeout.bytes_per_second_min) && SAME(limit.data_requests) &&
	       SAME(limit.metadata_requests) && SAME(limit.upload_bandwidth) &&
	       SAME(limit.download_bandwidth);
}

bool backend_same_settings(const struct ovfs_backend *a, const struct ovfs_backend *b)
{
	return backend_same_stack(a, b) && SAME(cache.write_back) &&
	       SAME(cache.write_back_delay_ns) && SAME(cache.dirty_limit) &&
	       SAME(cache.expiration) && SAME(cache.expiration_time_ns) && SAME(cache.read_ahead) &&
	       SAME(cache.part_size) && SAME(cache.parts_in_flight) &&
	       SAME(cache.wait_timeout_ns) && SAME(cache.on_conflict) &&
	       SAME(cache.drain_timeout_ns) && SAME(object.sparse_max);
}
