/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other clients stored with an object, beside its data: the headers that describe it, and
 * their x-amz-meta-... . A copy that changes something of it, and a new version that takes the
 * place of the object, shall have it, too. As text: name, NUL, value, NUL, and so on.
 */
#include <string.h>

#include "store/services/s3/internal.h"

/* As many as fit into a request beside our own. */
#define PROPERTIES_MAX 40

static bool is_property(const char *name)
{
	static const char *const names[] = { "cache-control",	 "content-disposition",
					     "content-encoding", "content-language",
					     "content-type",	 "expires" };

	if (strncmp(name, "x-amz-meta-", 11) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

bool s3_properties_wanted(const struct s3_request *request)
{
	const struct store_op *op = request->op;

	return request->step == STEP_SOURCE ||
	       (op->opcode == STORE_STAT && op->properties_out != NULL);
}

void s3_properties_header(struct s3_request *request, const char *name, const char *value)
{
	if (!s3_properties_wanted(request) || !is_property(name))
		return;
	/* No write may fail for ever because of it. */
	if (!s3_sign_header_valid(name, value)) {
		log_limited(&request->s3->log_limit, LOG_LEVEL_WARN, "s3_property_unsendable",
			    "bucket=%s key=\"%s\" name=\"%s\" effect=\"the next version lacks it\"",
			    request->s3->endpoint.bucket, request->op->key, name);
		return;
	}
	s3_buffer_bytes(&request->kept, name, strlen(name) + 1);
	s3_buffer_bytes(&request->kept, value, strlen(value) + 1);
}

void s3_properties_tell(const struct s3_request *request, struct store_properties *out)
{
	const struct s3_buffer *kept = &request->kept;
	unsigned count = 0;
	size_t at = 0;

	out->len = 0;
	out->cut = kept->error;
	while (!out->cut && at < kept->len) {
		const char *name = kept->data + at;
		size_t name_len = strlen(name) + 1, len = name_len + strlen(name + name_len) + 1;

		at += len;
		/* Ours go with each write anew. */
		if (strcmp(name, S3_HEADER_MTIME) == 0 || strcmp(name, S3_HEADER_WRITE_ID) == 0)
			continue;
		out->cut = out->len + len > out->room || ++count > PROPERTIES_MAX;
		if (!out->cut)
			memcpy(out->text + out->len, name, len);
		out->len += len;
	}
	if (out->cut)
		out->len = 0;
}
