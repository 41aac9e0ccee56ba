/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/s3/endpoint.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define AMAZON_GLOBAL "s3.amazonaws.com"
#define AMAZON_SUFFIX ".amazonaws.com"
#define AMAZON_SUFFIX_CHINA ".amazonaws.com.cn"

static bool has_suffix(const char *text, const char *suffix)
{
	size_t len = strlen(text), suffix_len = strlen(suffix);

	return len > suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

static bool is_region(const char *region)
{
	size_t len = strlen(region);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)region[i]) && region[i] != '-' && region[i] != '_')
			return false;
	}
	return len > 0 && len < S3_REGION_MAX;
}

/* Bucket names go into host names and paths as they are. */
static bool is_bucket(const char *bucket)
{
	size_t len = strlen(bucket);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)bucket[i]) && !strchr(".-_:", bucket[i]))
			return false;
	}
	return len > 0 && len < S3_BUCKET_MAX && strcmp(bucket, ".") != 0 &&
	       strcmp(bucket, "..") != 0;
}

static void endpoint_update(struct s3_endpoint *endpoint)
{
	bool china = strncmp(endpoint->region, "cn-", 3) == 0;

	if (endpoint->regional)
		snprintf(endpoint->base, sizeof(endpoint->base), "s3.%s%s", endpoint->region,
			 china ? AMAZON_SUFFIX_CHINA : AMAZON_SUFFIX);
	if (endpoint->virtual_host) {
		snprintf(endpoint->host, sizeof(endpoint->host), "%s.%s", endpoint->bucket,
			 endpoint->base);
		snprintf(endpoint->path, sizeof(endpoint->path), "%s/", endpoint->prefix);
	} else {
		snprintf(endpoint->host, sizeof(endpoint->host), "%s", endpoint->base);
		snprintf(endpoint->path, sizeof(endpoint->path), "%s/%s/", endpoint->prefix,
			 endpoint->bucket);
	}
}

bool s3_endpoint_set_region(struct s3_endpoint *endpoint, const char *region)
{
	if (!is_region(region))
		return false;
	snprintf(endpoint->region, sizeof(endpoint->region), "%s", region);
	endpoint->region_known = true;
	endpoint_update(endpoint);
	return true;
}

/* s3.amazonaws.com and s3.REGION.amazonaws.com are the same but for the region; others
 * (dual stack, FIPS, access points, ...) stay as they are written. */
static void endpoint_look_for_amazon(struct s3_endpoint *endpoint)
{
	const char *host = endpoint->base;
	const char *suffix = has_suffix(host, AMAZON_SUFFIX)	     ? AMAZON_SUFFIX
			     : has_suffix(host, AMAZON_SUFFIX_CHINA) ? AMAZON_SUFFIX_CHINA
								     : NULL;
	char region[S3_REGION_MAX];
	size_t len;

	if (!suffix)
		return;
	endpoint->amazon = true;
	if (strcmp(host, AMAZON_GLOBAL) == 0) {
		endpoint->regional = true;
		return;
	}
	len = strlen(host) - strlen(suffix);
	if (strncmp(host, "s3.", 3) != 0 || len - 3 >= sizeof(region))
		return;
	memcpy(region, host + 3, len - 3);
	region[len - 3] = '\0';
	if (!is_region(region))
		return;
	endpoint->regional = true;
	if (!endpoint->region_known) {
		memcpy(endpoint->region, region, sizeof(region));
		endpoint->region_known = true;
	}
}

static struct err *endpoint_parse(struct s3_endpoint *endpoint, const char *url)
{
	const char *host = url, *end;
	size_t len, path_len;
	char port[8];

	endpoint->tls = true;
	if (strncasecmp(url, "http://", 7) == 0) {
		endpoint->tls = false;
		host = url + 7;
	} else if (strncasecmp(url, "https://", 8) == 0) {
		host = url + 8;
	} else if (strstr(url, "://")) {
		return err_new("endpoint %s: neither http:// nor https://", url);
	}
	len = strcspn(host, "/");
	end = host + len + strlen(host + len);
	while (end > host + len && end[-1] == '/')
		end--;
	path_len = (size_t)(end - host) - len;
	if (len == 0 || len >= sizeof(endpoint->base) || path_len >= sizeof(endpoint->prefix) ||
	    strcspn(host, "?#@ \t\r\n") != strlen(host))
		return err_new("endpoint %s: expected http[s]://HOST[:PORT][/PATH]", url);
	for (size_t i = 0; i < len; i++)
		endpoint->base[i] = (char)tolower((unsigned char)host[i]);
	endpoint->base[len] = '\0';
	memcpy(endpoint->prefix, host + len, path_len);
	endpoint->prefix[path_len] = '\0';
	/* As the Host header is sent: without the port where it is the usual one. */
	snprintf(port, sizeof(port), endpoint->tls ? ":443" : ":80");
	if (has_suffix(endpoint->base, port))
		endpoint->base[len - strlen(port)] = '\0';
	return NULL;
}

struct err *s3_endpoint_init(struct s3_endpoint *endpoint, const char *url, const char *bucket,
			     const char *region, const char *default_region, bool virtual_host)
{
	struct err *e;

	*endpoint = (struct s3_endpoint){ .virtual_host = virtual_host };
	if (!bucket || !*bucket)
		return err_new("bucket: missing");
	if (!is_bucket(bucket))
		return err_new("bucket \"%s\": no bucket can have this name", bucket);
	snprintf(endpoint->bucket, sizeof(endpoint->bucket), "%s", bucket);
	e = endpoint_parse(endpoint, url ? url : "https://" AMAZON_GLOBAL);
	if (e)
		return e;
	if (!default_region)
		default_region = "us-east-1";
	if (region && !is_region(region))
		return err_new("region \"%s\": no region can have this name", region);
	if (!is_region(default_region))
		return err_new("default_region \"%s\": no region can have this name",
			       default_region);
	endpoint->region_known = region != NULL;
	snprintf(endpoint->region, sizeof(endpoint->region), "%s",
		 region ? region : default_region);
	endpoint_look_for_amazon(endpoint);
	endpoint_update(endpoint);
	return NULL;
}
