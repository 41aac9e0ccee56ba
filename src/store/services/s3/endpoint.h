/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where requests go: the endpoint as it was configured, and host and path as region, bucket
 * and style make them. Changed on the transfer loop only, when the region turns out to be
 * another one.
 */
#ifndef OVFS_STORE_SERVICES_S3_ENDPOINT_H
#define OVFS_STORE_SERVICES_S3_ENDPOINT_H

#include <stdbool.h>

#include "base/err.h"

#define S3_HOST_MAX 256 /* bytes with the NUL, as below */
#define S3_REGION_MAX 64
#define S3_BUCKET_MAX 256 /* services other than Amazon allow more than 63 */

struct s3_endpoint {
	bool tls;
	bool amazon;   /* Amazon's own */
	bool regional; /* ... and its host is made of the region */
	bool virtual_host;
	char bucket[S3_BUCKET_MAX];
	char base[S3_HOST_MAX];	  /* host[:port] without the bucket */
	char prefix[S3_HOST_MAX]; /* path before the bucket, "" or "/x" */
	char region[S3_REGION_MAX];
	bool region_known; /* configured, part of the host, or learnt */

	/* Of requests: */
	char host[S3_HOST_MAX + S3_BUCKET_MAX];	    /* as in the Host header */
	char path[S3_HOST_MAX + S3_BUCKET_MAX + 2]; /* before the key, ends with '/' */
};

/* @url NULL: Amazon. @region NULL: not known. */
struct err *s3_endpoint_init(struct s3_endpoint *endpoint, const char *url, const char *bucket,
			     const char *region, const char *default_region, bool virtual_host)
	__attribute__((warn_unused_result));

/* The service named another region. False when it is none. */
bool s3_endpoint_set_region(struct s3_endpoint *endpoint, const char *region);

#endif
