/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A document of any bytes from a service: parsed at once, and again in pieces whose length is
 * its first byte. Both have to come to the same rows, results and end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "store/services/s3/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	struct s3_document document;
	uint64_t rows; /* a hash of them */
	int error;
};

static void mix(uint64_t *hash, const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*hash = (*hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
}

static void add_row(void *arg, const struct s3_row *row)
{
	uint64_t *hash = arg;

	mix(hash, &row->kind, sizeof(row->kind));
	mix(hash, row->key, strlen(row->key) + 1);
	mix(hash, row->session, strlen(row->session) + 1);
	mix(hash, row->code, strlen(row->code) + 1);
	mix(hash, row->etag, strlen(row->etag) + 1);
	mix(hash, &row->size, sizeof(row->size));
	mix(hash, &row->mtime_ns, sizeof(row->mtime_ns));
}

static struct outcome parse(struct s3_xml *xml, const uint8_t *data, size_t size, size_t step)
{
	struct outcome outcome = { .rows = 0xcbf29ce484222325 };

	s3_xml_begin(xml, add_row, &outcome.rows);
	for (size_t at = 0; at < size; at += step)
		outcome.error = s3_xml_feed(xml, data + at, MIN(step, size - at));
	outcome.error = s3_xml_end(xml);
	outcome.document = *s3_xml_document(xml);
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3_xml *xml = s3_xml_new();
	struct outcome whole, pieces;

	if (!xml)
		abort();
	if (size) {
		whole = parse(xml, data + 1, size - 1, size);
		pieces = parse(xml, data + 1, size - 1, data[0] ? data[0] : 1);
		if (whole.error != pieces.error)
			abort();
		if (!whole.error &&
		    (whole.rows != pieces.rows ||
		     memcmp(&whole.document, &pieces.document, sizeof(whole.document)) != 0))
			abort();
	}
	s3_xml_free(xml);
	return 0;
}
