/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The S3 service: the operator contract (store/operator.h) over the REST API of Amazon S3
 * and of those who speak it (MinIO, Ceph RGW, R2, ...).
 *
 *	s3.c		its life, capabilities, and the life of a request
 *	config.c	what the configuration means
 *	check.c		the check at start, and its one message
 *	actions.c	operation -> method, key, query, headers, body
 *	request.c	... signed, and in the form that libcurl takes
 *	transfer.c	one libcurl multi handle on the given loop, bounded connections
 *	answer.c	status, headers, document -> operation
 *	list.c, delete.c	listings and batches of deletions
 *	error.c		S3's error codes -> errno
 *	xml.c		streaming parser of every document S3 answers with
 *	sign.c, credentials.c	who we are (headers of their own)
 *
 * Everything happens on the transfer loop; s3_new(), s3_check() and store_free() as they
 * say. Requests beyond s3_config.connections_max wait in order of arrival.
 *
 * Memory: some tens of KiB for an operation under way, and libcurl's buffers of 512 KiB each way
 *for a connection while it is in use. Nothing of an object is kept.
 *
 * Times of writes (meta.mtime_ns of PUT and COMMIT) are the service's clock at its answer: it
 * does not tell the object's own, which may be some seconds older. Listings are in whole
 * seconds, as the headers of objects are.
 *
 * A service that answers a conditional write with NotImplemented keeps its capability in
 * store_caps(), which layers have copied; from then on such writes end with -EOPNOTSUPP at once.
 *
 * A COMMIT whose connection broke may leave a session at MinIO's that is of no use any more:
 * the next one ends with -EINVAL (InvalidPart). Then begin anew, with all parts.
 *
 * Keys of operations are relative to the root. Metadata that others read, too:
 * `x-amz-meta-mtime` (seconds with an optional fraction, as rclone and s3fs write it),
 * and `x-amz-meta-ovfs-write-id`, which recognises a write of ours.
 */
#ifndef OVFS_STORE_SERVICES_S3_S3_H
#define OVFS_STORE_SERVICES_S3_S3_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "store/operator.h"

/*
 * Names as in OpenDAL's S3Config, where there is one. Strings: NULL or "" for the default.
 * Copied by s3_new().
 */
struct s3_config {
	/* Where. */
	const char *root;   /* prefix of all keys; "a/b", "/a/b/": the same; NULL: none */
	const char *bucket; /* required */
	/* "https://s3.amazonaws.com", host[:port] and a path; without a scheme: https.
	 * NULL: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (unless disable_config_load), else
	 * Amazon in @region. */
	const char *endpoint;
	/* NULL: as environment and profile say (unless disable_config_load), else as the
	 * service's answer tells. */
	const char *region;
	const char *default_region;	/* when nothing else says it; NULL: us-east-1 */
	bool enable_virtual_host_style; /* bucket.host instead of host/bucket */

	/* Who. */
	const char *profile; /* NULL: AWS_PROFILE or "default" */
	const char *access_key_id, *secret_access_key, *session_token;
	const char *role_arn, *external_id, *role_session_name;
	uint32_t assume_role_duration_seconds; /* 0: 3600 */
	bool disable_config_load;	       /* neither environment nor profile files */
	bool disable_ec2_metadata;
	/* Nothing is signed. OpenDAL's two names for it; either. */
	bool skip_signature, allow_anonymous;

	/* How objects are stored. */
	const char *server_side_encryption; /* "AES256", "aws:kms", "aws:kms:dsse" */
	const char *server_side_encryption_aws_kms_key_id;
	bool server_side_encryption_bucket_key_enabled;
	const char *server_side_encryption_customer_algorithm; /* "AES256" */
	const char *server_side_encryption_customer_key;       /* base64 of 32 bytes */
	const char *server_side_encryption_customer_key_md5;   /* base64; NULL: computed */
	const char *default_storage_class;		       /* "STANDARD_IA", ... */
	const char *default_acl;			       /* "private", ...: canned */
	const char *checksum_algorithm; /* "off" (default), "crc32c", "crc64nvme", "md5" */

	/* What the service can do. */
	bool enable_request_payer;
	bool disable_list_objects_v2;
	bool disable_write_with_if_match; /* neither If-Match nor If-None-Match on writes */
	bool disable_stat_with_override;  /* accepted: such requests are never sent */
	uint32_t batch_max_operations;	  /* keys in a DeleteObjects; 0: 1000; 1: no batches */
	uint32_t delete_max_size;	  /* OpenDAL's newer name of the same; both: the smaller */
	bool enable_versioning;		  /* refused: old versions cannot be asked for */
	bool enable_write_with_append;	  /* refused: objects are written whole */

	/* The connections. Certificates are always verified. */
	const char *ca_bundle;			     /* PEM file; NULL: the system's */
	const char *client_certificate, *client_key; /* PEM files; key NULL: in the same file */
	const char *proxy; /* "http://host:port"; NULL: none, whatever the environment says */
	uint32_t connections_max;    /* 0: 64 */
	uint32_t connect_timeout_ms; /* name, TCP, TLS; 0: 10000 */
	bool sign_payload;	     /* hash bodies over TLS, too; over plain HTTP: always */
};

/*
 * Makes the service; no request is sent, files named by @config are read. @loop may run
 * already or later. An error names the key that is wrong. *@out is freed by store_free().
 */
struct err *s3_new(struct store **out, struct loop *loop, const struct s3_config *config)
	__attribute__((warn_unused_result));

/*
 * One cheap request (a listing of one row), made up to three times when it fails for a passing
 * reason, which also learns the region. The error
 * says which it is: the key id, the secret, the bucket, the region, the clock, a name that
 * does not resolve, an endpoint that refuses, TLS, missing permission, or no answer.
 * @service is what s3_new() gave. Blocks until the answer or @timeout_ms; not on the transfer
 * loop, which has to run. *@absent: the service is not there, or not able to answer, for now;
 * else it was, and something is wrong with what it was asked, or with whom.
 */
struct err *s3_check(struct store *service, uint32_t timeout_ms, bool *absent)
	__attribute__((warn_unused_result));

/* Connections with a request on them, of those that there may be. @service is what s3_new()
 * gave. Any thread. */
void s3_connections(const struct store *service, unsigned *busy, unsigned *max);

#endif
