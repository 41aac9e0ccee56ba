/* SPDX-License-Identifier: Apache-2.0 */
/*
 * s3bare: what an S3 server gives to a client that does nothing else, as the measure for what
 * ovfs gets out of it. Threads with a connection each, bodies from and to memory.
 *
 *	s3bare get KEY SIZE PART CONNECTIONS	the object, in ranges of PART bytes
 *	s3bare put KEY SIZE PART CONNECTIONS	a multipart upload
 *	s3bare random KEY SIZE BYTES CONNECTIONS COUNT
 *						COUNT ranges of BYTES at random places
 *	s3bare small PREFIX BYTES - CONNECTIONS COUNT
 *						the objects PREFIX0000000 ... once each
 *	s3bare memcpy - SIZE BLOCK BLOCKS	no server: blocks of a region, once each, to
 *						BLOCKS others in turn, eight times over
 *	s3bare touch - SIZE - -			no server: memory, once, and gives it back
 *
 * S3BARE_URL is the server, http://HOST:PORT/BUCKET. With S3BARE_KEYS, REGION:KEY:SECRET, it signs,
 * and hashes what it sends; without, the bucket is open to everybody. Prints one JSON object:
 * bytes, requests, seconds, cpu_s.
 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "store/services/s3/credentials.h"
#include "store/services/s3/sign.h"

#define PARTS_MAX 10000

enum verb { GET, PUT, RANDOM, SMALL };

static struct {
	enum verb verb;
	const char *key;
	uint64_t size, part, count;
	unsigned int connections;
	const char *url, *host; /* up to, and without the bucket */
	const char *region;
	struct s3_credentials *keys; /* NULL: nothing is signed */
	char upload[512];
	char etags[PARTS_MAX][72];
	_Atomic uint64_t next, bytes, requests;
	_Atomic bool failed;
} bare;

struct body {
	char *p;
	size_t len, room, sent;
};

static size_t take(char *data, size_t size, size_t n, void *arg)
{
	struct body *body = arg;
	size_t len = size * n;

	if (len > body->room - body->len)
		return 0;
	memcpy(body->p + body->len, data, len);
	body->len += len;
	return len;
}

static size_t give(char *data, size_t size, size_t n, void *arg)
{
	struct body *body = arg;
	size_t len = size * n < body->room - body->sent ? size * n : body->room - body->sent;

	memcpy(data, body->p + body->sent, len);
	body->sent += len;
	return len;
}

static size_t take_etag(char *data, size_t size, size_t n, void *arg)
{
	char *etag = arg;

	if (size * n > 6 && strncasecmp(data, "etag: ", 6) == 0)
		snprintf(etag, 72, "%.*s", (int)strcspn(data + 6, "\r\n"), data + 6);
	return size * n;
}

static void add_header(struct curl_slist **headers, const char *name, const char *value)
{
	char line[S3_SIGN_AUTH_MAX + 64];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	*headers = curl_slist_append(*headers, line);
}

/* Signs a request; @path with the bucket, @query as it goes into the URL, values without '&'. */
static void sign(struct curl_slist **headers, const char *method, const char *path,
		 const char *query, const struct body *up)
{
	static _Thread_local struct s3_sign_result result;
	static _Thread_local struct s3_signer *signer;
	char hash[S3_SIGN_HASH_SIZE] = S3_EMPTY_PAYLOAD, text[1024], *rest = text, *name;
	struct iovec iov = { up ? up->p : NULL, up ? up->room : 0 };
	struct s3_sign_pair pairs[4];
	struct s3_sign_request wanted = { .method = method,
					  .host = bare.host,
					  .path = path,
					  .service = "s3",
					  .region = bare.region,
					  .query = pairs,
					  .payload_hash = hash,
					  .now = time(NULL) };

	if (!signer && s3_signer_new(&signer))
		exit(1);
	snprintf(text, sizeof(text), "%s", query);
	while ((name = strsep(&rest, "&")) && *name && wanted.query_count < 4) {
		char *value = strchr(name, '=');

		*value++ = '\0';
		pairs[wanted.query_count++] = (struct s3_sign_pair){ name, value };
	}
	if ((up && s3_sign_payload_hash(signer, iov_cursor(&iov, 1), up->room, hash)) ||
	    s3_sign(signer, bare.keys, &wanted, &result))
		exit(1);
	add_header(headers, "x-amz-date", result.date);
	add_header(headers, "x-amz-content-sha256", result.content_sha256);
	add_header(headers, "Authorization", result.authorization);
}

/* One request; @up or @down may be NULL. @range: "first-last" or NULL. False: it failed. */
static bool request(CURL *curl, const char *method, const char *key, const char *query,
		    const char *range, struct body *up, struct body *down, char *etag)
{
	char url[2048], sink_room[4096], path[1024];
	struct body sink = { .p = sink_room, .room = sizeof(sink_room) };
	struct curl_slist *headers = NULL;
	long status = 0;
	CURLcode code;

	curl_easy_reset(curl);
	snprintf(url, sizeof(url), "%s/%s%s%s", bare.url, key, *query ? "?" : "", query);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(curl, CURLOPT_RANGE, range);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, down ? down : &sink);
	if (etag) {
		curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_etag);
		curl_easy_setopt(curl, CURLOPT_HEADERDATA, etag);
	}
	if (up) {
		curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
		curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)up->room);
		curl_easy_setopt(curl, CURLOPT_READFUNCTION, give);
		curl_easy_setopt(curl, CURLOPT_READDATA, up);
	}
	headers = curl_slist_append(headers, "Expect:");
	snprintf(path, sizeof(path), "%s/%s", strchr(bare.host, '\0') + 1, key);
	if (bare.keys)
		sign(&headers, method, path, query, up);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	atomic_fetch_add(&bare.requests, 1);
	if (code != CURLE_OK || status / 100 != 2) {
		fprintf(stderr, "s3bare: %s %s: %s, status %ld\n%.*s\n", method, url,
			curl_easy_strerror(code), status, down ? (int)down->len : (int)sink.len,
			down ? down->p : sink.p);
		atomic_store(&bare.failed, true);
		return false;
	}
	return true;
}

static bool get_range(CURL *curl, const char *key, uint64_t offset, uint64_t len, char *buf)
{
	struct body down = { .p = buf, .room = len };
	char range[64];

	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)offset,
		 (unsigned long long)(offset + len - 1));
	return request(curl, "GET", key, "", range, NULL, &down, NULL) && down.len == len;
}

/* The work of number @i; false when there is none of that number, or it failed. */
static bool work(CURL *curl, uint64_t i, char *buf)
{
	uint64_t offset = i * bare.part, len = bare.part;
	char text[1024];
	struct body up = { .p = buf };

	if (bare.verb == GET || bare.verb == PUT) {
		if (offset >= bare.size)
			return false;
		len = len < bare.size - offset ? len : bare.size - offset;
	} else if (i >= bare.count) {
		return false;
	}
	atomic_fetch_add(&bare.bytes, bare.verb == SMALL ? bare.size : len);
	switch (bare.verb) {
	case GET:
		return get_range(curl, bare.key, offset, len, buf);
	case RANDOM:
		/* A full period over the places, in no order that a server could guess. */
		offset = (i * 2654435761u + 12345) % (bare.size / len) * len;
		return get_range(curl, bare.key, offset, len, buf);
	case SMALL:
		snprintf(text, sizeof(text), "%s%07llu", bare.key, (unsigned long long)i);
		return get_range(curl, text, 0, bare.size, buf);
	case PUT:
		up.room = len;
		snprintf(text, sizeof(text), "partNumber=%llu&uploadId=%s",
			 (unsigned long long)i + 1, bare.upload);
		return i < PARTS_MAX &&
		       request(curl, "PUT", bare.key, text, NULL, &up, NULL, bare.etags[i]);
	}
	return false;
}

/* "http://HOST:PORT/BUCKET" and "REGION:KEY:SECRET". */
static bool configure(const char *url, char *keys)
{
	static char host[256];
	char *region, *key;
	size_t len;

	if (!url || strncmp(url, "http://", 7) != 0)
		return false;
	bare.url = url;
	len = strcspn(url + 7, "/");
	if (len + strlen(url + 7 + len) + 2 > sizeof(host))
		return false;
	/* Two strings: the host, and behind its NUL the path of the bucket. */
	memcpy(host, url + 7, len);
	strcpy(host + len + 1, url + 7 + len);
	bare.host = host;
	if (!keys)
		return true;
	region = strsep(&keys, ":");
	key = strsep(&keys, ":");
	if (!keys)
		return false;
	bare.region = region;
	bare.keys = s3_credentials_new(key, keys, NULL, 0, "environment");
	return bare.keys;
}

static void *run(void *arg)
{
	CURL *curl = curl_easy_init();
	uint64_t room = bare.verb == SMALL ? bare.size : bare.part;
	char *buf = malloc(room);

	(void)arg;
	if (!curl || !buf)
		exit(1);
	memset(buf, 'x', room);
	while (!atomic_load(&bare.failed) && work(curl, atomic_fetch_add(&bare.next, 1), buf))
		;
	free(buf);
	curl_easy_cleanup(curl);
	return NULL;
}

static void upload_begin(CURL *curl)
{
	char text[4096] = "", *id;
	struct body down = { .p = text, .room = sizeof(text) - 1 };

	if (!request(curl, "POST", bare.key, "uploads=", NULL, NULL, &down, NULL))
		exit(1);
	id = strstr(text, "<UploadId>");
	if (!id)
		exit(1);
	id += strlen("<UploadId>");
	snprintf(bare.upload, sizeof(bare.upload), "%.*s", (int)strcspn(id, "<"), id);
}

static void upload_end(CURL *curl)
{
	uint64_t parts = (bare.size + bare.part - 1) / bare.part;
	char *text = malloc(parts * 160 + 100), query[600];
	struct body up = { .p = text };

	if (!text)
		exit(1);
	up.room += (size_t)sprintf(text, "<CompleteMultipartUpload>");
	for (uint64_t i = 0; i < parts; i++)
		up.room += (size_t)sprintf(
			text + up.room, "<Part><PartNumber>%llu</PartNumber><ETag>%s</ETag></Part>",
			(unsigned long long)i + 1, bare.etags[i]);
	up.room += (size_t)sprintf(text + up.room, "</CompleteMultipartUpload>");
	snprintf(query, sizeof(query), "uploadId=%s", bare.upload);
	request(curl, "POST", bare.key, query, NULL, &up, NULL, NULL);
	free(text);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What reading from memory costs at least: one copy, from huge pages, as the pool has them, to
 * blocks of shared memory in turn, as a guest has it. */
static int copy_memory(uint64_t size, uint64_t block, unsigned int blocks)
{
	char *from = aligned_alloc(2u << 20, size), *to;
	uint64_t bytes = 0;
	double start;

	if (!from || !block || block > size || !blocks)
		return 1;
	to = mmap(NULL, block * blocks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED)
		return 1;
	madvise(from, size, MADV_HUGEPAGE);
	memset(from, 'x', size);
	memset(to, 'y', block * blocks);
	start = now();
	for (int round = 0; round < 8; round++) {
		for (uint64_t at = 0; at + block <= size; at += block, bytes += block) {
			char *p = to + at / block % blocks * block;

			memcpy(p, from + at, block);
			__asm__ volatile("" : : "r"(p) : "memory"); /* it is wanted */
		}
	}
	printf("{\"bytes\": %llu, \"requests\": 0, \"seconds\": %.6f, \"cpu_s\": 0}\n",
	       (unsigned long long)bytes, now() - start);
	free(from);
	munmap(to, block * blocks);
	return 0;
}

/* Where memory that nobody uses goes back to the host of a virtual machine, the first who uses it
 * again pays for that; here it is us. */
static int touch_memory(uint64_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 1;
	madvise(p, size, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < size; at += 4096)
		*(volatile char *)(p + at) = 1;
	munmap(p, size);
	printf("{\"bytes\": %llu}\n", (unsigned long long)size);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const verbs[] = { "get", "put", "random", "small" };
	pthread_t threads[256];
	struct rusage usage;
	double start;
	CURL *curl;

	if (argc > 5 && strcmp(argv[1], "memcpy") == 0)
		return copy_memory(strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
				   (unsigned int)atoi(argv[5]));
	if (argc > 3 && strcmp(argv[1], "touch") == 0)
		return touch_memory(strtoull(argv[3], NULL, 10));
	while (argc > 1 && bare.verb <= SMALL && strcmp(argv[1], verbs[bare.verb]) != 0)
		bare.verb++;
	if (argc < 6 || bare.verb > SMALL ||
	    !configure(getenv("S3BARE_URL"), getenv("S3BARE_KEYS"))) {
		fprintf(stderr, "usage: s3bare get|put|random|small KEY SIZE PART CONNECTIONS "
				"[COUNT]; see its source\n");
		return 2;
	}
	bare.key = argv[2];
	bare.size = strtoull(argv[3], NULL, 10);
	bare.part = bare.verb == SMALL ? 1 : strtoull(argv[4], NULL, 10);
	bare.connections = (unsigned int)atoi(argv[5]);
	bare.count = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
	if (!bare.size || !bare.part || !bare.connections || bare.connections > 256)
		return 2;
	curl_global_init(CURL_GLOBAL_ALL);
	curl = curl_easy_init();
	start = now();
	if (bare.verb == PUT)
		upload_begin(curl);
	for (unsigned int i = 0; i < bare.connections; i++)
		if (pthread_create(&threads[i], NULL, run, NULL) != 0)
			return 1;
	for (unsigned int i = 0; i < bare.connections; i++)
		pthread_join(threads[i], NULL);
	if (bare.verb == PUT)
		upload_end(curl);
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"bytes\": %llu, \"requests\": %llu, \"seconds\": %.6f, \"cpu_s\": %.6f}\n",
	       (unsigned long long)bare.bytes, (unsigned long long)bare.requests, now() - start,
	       (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6 +
		       (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
	return atomic_load(&bare.failed);
}
