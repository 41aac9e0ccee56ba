/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part of keys.c: [storage_settings]. The names of the keys for S3 are those of
 * OpenDAL's S3Config; each of those is here or among the refused.
 */
#ifndef OVFS_CONF_KEYS_STORAGE_H
#define OVFS_CONF_KEYS_STORAGE_H

#include <limits.h>

#include "conf/keys.h"

static const char *const words_storage[] = {
	[OVFS_STORAGE_FS] = "fs",
	[OVFS_STORAGE_S3] = "s3",
	[OVFS_STORAGE_MEMORY] = "memory",
	NULL,
};

static const char *const words_checksum[] = {
	[OVFS_CHECKSUM_OFF] = "off",
	[OVFS_CHECKSUM_CRC32C] = "crc32c",
	[OVFS_CHECKSUM_CRC64NVME] = "crc64nvme",
	[OVFS_CHECKSUM_MD5] = "md5",
	NULL,
};

static const char *const words_encryption[] = {
	[OVFS_ENCRYPTION_BUCKET] = "bucket",
	[OVFS_ENCRYPTION_AES256] = "AES256",
	[OVFS_ENCRYPTION_KMS] = "aws:kms",
	[OVFS_ENCRYPTION_KMS_DSSE] = "aws:kms:dsse",
	NULL,
};

#define S3_STRING(key, most, text)                                                                 \
	{                                                                                          \
		.name = #key, .doc = (text), .type = CONF_STRING, .min = 1, .max = (most),         \
		.only = ONLY_S3, FIELD_BACKEND(storage.s3.key)                                     \
	}
#define S3_SECRET(key, most, text)                                                                 \
	{                                                                                          \
		.name = #key, .doc = (text), .type = CONF_STRING, .min = 1, .max = (most),         \
		.only = ONLY_S3, .flags = CONF_SECRET, FIELD_BACKEND(storage.s3.key)               \
	}
#define S3_PATH(key, text)                                                                         \
	{                                                                                          \
		.name = #key, .doc = (text), .type = CONF_PATH, .min = 1, .max = PATH_MAX - 1,     \
		.only = ONLY_S3, FIELD_BACKEND(storage.s3.key)                                     \
	}
#define S3_FILE(key, text)                                                                         \
	{                                                                                          \
		.name = #key "_file", .doc = (text), .type = CONF_PATH, .min = 1,                  \
		.max = PATH_MAX - 1, .only = ONLY_S3, .reads = #key,                               \
		FIELD_BACKEND(storage.s3.key##_file)                                               \
	}
#define S3_BOOL(key, text)                                                                         \
	{                                                                                          \
		.name = #key, .doc = (text), .type = CONF_BOOL, .standard = "false",               \
		.only = ONLY_S3, FIELD_BACKEND(storage.s3.key)                                     \
	}

static const struct conf_key keys_storage[] = {
	{ .name = "type",
	  .doc = "What serves the files. fs: a directory of the host. s3: a bucket of Amazon S3 or "
		 "of a service that speaks its protocol. memory: objects in the daemon's own "
		 "memory, gone when it ends, for trials.",
	  .type = CONF_CHOICE,
	  .standard = "fs",
	  .words = words_storage,
	  .change = CONF_CHANGE_REPLACE,
	  FIELD_BACKEND(storage.type) },
	{ .name = "root",
	  .doc = "fs: the directory to share, required; a relative path starts at the working "
		 "directory. s3: what all keys begin with, such as \"projects/a\"; not set, the "
		 "whole bucket is shared.",
	  .type = CONF_PATH,
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .only = ONLY_FS | ONLY_S3,
	  .change = CONF_CHANGE_REPLACE,
	  FIELD_BACKEND(storage.root) },
	{ .name = "readonly",
	  .doc = "Refuse every change a guest asks for with EROFS.",
	  .type = CONF_BOOL,
	  .standard = "false",
	  FIELD_BACKEND(storage.readonly) },
	{ .name = "capacity",
	  .doc = "How many bytes of objects are kept; then writes fail with ENOSPC.",
	  .type = CONF_SIZE,
	  .standard = "1GiB",
	  .min = MIB,
	  .max = 1ull << 50,
	  .only = ONLY_MEMORY,
	  .change = CONF_CHANGE_REPLACE,
	  FIELD_BACKEND(storage.capacity) },

	/* Where. */
	{ .name = "bucket",
	  .doc = "The bucket. Required.",
	  .type = CONF_STRING,
	  .min = 1,
	  .max = 255,
	  .only = ONLY_S3,
	  .change = CONF_CHANGE_REPLACE,
	  FIELD_BACKEND(storage.s3.bucket) },
	S3_STRING(
		endpoint, 2048,
		"The service, such as \"https://s3.amazonaws.com\" or \"http://127.0.0.1:9000\"; "
		"without a scheme: https. Not set: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL of the "
		"environment, else Amazon in the region."),
	S3_STRING(region, 128,
		  "The region of the bucket, such as \"us-east-1\". Not set: AWS_REGION, "
		  "AWS_DEFAULT_REGION or the profile says it, else the service's first answer."),
	S3_BOOL(enable_virtual_host_style,
		"Put the bucket into the host name (https://bucket.host/key) in place of the path "
		"(https://host/bucket/key)."),

	/* Who. */
	S3_STRING(
		access_key_id, 256,
		"The access key. Not set: what the environment, the profile files, a web identity, "
		"the container's or the instance's role give, in this order, renewed before it "
		"expires."),
	S3_SECRET(secret_access_key, 511, "The secret that belongs to access_key_id."),
	S3_FILE(secret_access_key, "Where the secret access key is written."),
	S3_SECRET(session_token, 32768, "The token of temporary keys."),
	S3_FILE(session_token, "Where the token of temporary keys is written."),
	S3_STRING(profile, 256,
		  "The profile of the AWS configuration files to use (AWS_SHARED_CREDENTIALS_FILE, "
		  "AWS_CONFIG_FILE or ~/.aws). Not set: AWS_PROFILE, else \"default\"."),
	S3_STRING(role_arn, 2048, "A role to assume (STS) with the keys that were found."),
	S3_STRING(external_id, 1224, "The external id that the role asks for."),
	S3_STRING(role_session_name, 64, "The name of the session in the role's logs."),
	{ .name = "assume_role_duration_seconds",
	  .doc = "How long the keys of the role are valid.",
	  .type = CONF_INTEGER,
	  .standard = "3600",
	  .min = 900,
	  .max = 43200,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.assume_role_duration_seconds) },
	S3_BOOL(disable_config_load, "Look neither at the environment nor at AWS' files."),
	S3_BOOL(disable_ec2_metadata, "Do not ask the instance's metadata service for keys."),
	S3_BOOL(skip_signature, "Sign no request: for public buckets. No keys are looked for."),
	S3_BOOL(allow_anonymous, "Send requests without a signature when no source has keys."),

	/* How objects are stored. */
	{ .name = "server_side_encryption",
	  .doc = "How the service encrypts new objects; bucket: as the bucket is set up.",
	  .type = CONF_CHOICE,
	  .standard = "bucket",
	  .words = words_encryption,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.server_side_encryption) },
	S3_STRING(server_side_encryption_aws_kms_key_id, 2048,
		  "The key for server_side_encryption \"aws:kms\"; not set: AWS' own."),
	S3_BOOL(server_side_encryption_bucket_key_enabled,
		"Use the bucket's key for server_side_encryption \"aws:kms\": fewer requests to "
		"KMS."),
	S3_STRING(server_side_encryption_customer_algorithm, 32,
		  "The algorithm (\"AES256\") for encryption with a key of your own, which is sent "
		  "with each request; https only."),
	S3_SECRET(server_side_encryption_customer_key, 64, "That key, 32 bytes in base64."),
	S3_FILE(server_side_encryption_customer_key, "Where that key is written."),
	S3_STRING(server_side_encryption_customer_key_md5, 64,
		  "The MD5 of that key in base64; not set: computed."),
	S3_STRING(default_storage_class, 64,
		  "The storage class of new objects, such as \"STANDARD_IA\"."),
	S3_STRING(default_acl, 64, "The canned ACL of new objects, such as \"private\"."),
	{ .name = "checksum_algorithm",
	  .doc = "A checksum of what is sent, which the service verifies and keeps. MD5 is for "
		 "services that know no other.",
	  .type = CONF_CHOICE,
	  .standard = "off",
	  .words = words_checksum,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.checksum_algorithm) },
	S3_BOOL(sign_payload, "Sign the bodies of requests, too, when they go over TLS. Over plain "
			      "HTTP they always "
			      "are."),

	/* What the service can do. */
	S3_BOOL(enable_request_payer, "Pay for the requests to somebody else's bucket."),
	S3_BOOL(disable_list_objects_v2, "Use the older ListObjects, for services without the "
					 "newer one."),
	S3_BOOL(disable_write_with_if_match, "Send no conditions with writes, for services that "
					     "lack them (some Ceph). What another "
					     "client wrote meanwhile is then overwritten."),
	S3_BOOL(disable_stat_with_override,
		"Of OpenDAL; no effect here: such requests are never sent."),
	{ .name = "delete_max_size",
	  .doc = "How many objects one request may delete. 1: one request for each object.",
	  .type = CONF_INTEGER,
	  .standard = "1000",
	  .min = 1,
	  .max = 1000,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.delete_max_size) },

	/* The connections. */
	S3_PATH(ca_bundle, "The authorities to believe (PEM); not set: the system's. The service's "
			   "certificate is always verified."),
	S3_PATH(client_certificate, "A certificate to show to the service (PEM)."),
	S3_PATH(client_key, "Its key (PEM); not set: in the same file."),
	S3_STRING(proxy, 2048,
		  "An HTTP proxy, such as \"http://host:3128\". The environment's "
		  "is not used."),
	{ .name = "connections_max",
	  .doc = "How many connections to the service there are at most.",
	  .type = CONF_INTEGER,
	  .standard = "64",
	  .min = 1,
	  .max = 1024,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.connections_max) },
	{ .name = "connect_timeout",
	  .doc = "How long it may take to find the service's address, to connect and to agree on "
		 "encryption.",
	  .type = CONF_DURATION,
	  .standard = "10s",
	  .min = 1000000,
	  .max = 600 * SECOND_NS,
	  .only = ONLY_S3,
	  FIELD_BACKEND(storage.s3.connect_timeout_ns) },
};

static const struct conf_refused refused_storage[] = {
	{ "batch_max_operations", "OpenDAL calls it delete_max_size now" },
	{ "enable_versioning", "a file has one version, the latest" },
	{ "enable_write_with_append", "objects are replaced as a whole, with conditions, so that "
				      "a reader never sees half of a change" },
	{ "assume_role_session_tags", "sessions are not tagged" },
	{ "container_credentials_relative_uri",
	  "set AWS_CONTAINER_CREDENTIALS_RELATIVE_URI in the environment" },
	{ "container_credentials_endpoint",
	  "set AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment" },
	{ "container_authorization_token",
	  "set AWS_CONTAINER_AUTHORIZATION_TOKEN in the environment" },
	{ "container_authorization_token_file",
	  "set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE in the environment" },
	{ "container_metadata_uri_override",
	  "set AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment" },
};

#undef S3_STRING
#undef S3_SECRET
#undef S3_PATH
#undef S3_FILE
#undef S3_BOOL

#endif
