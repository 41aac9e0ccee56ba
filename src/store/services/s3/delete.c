/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of deletions: one DeleteObjects for the keys that XML can carry, in its quiet form,
 * which names only those that failed; then one DeleteObject after the other for the rest.
 */
#include <errno.h>
#include <string.h>

#include "store/services/s3/internal.h"

enum { PENDING = 1 }; /* in key_results: not asked for yet */

bool s3_delete_in_batch(const struct s3 *s3, const char *key)
{
	return strlen(s3->root) + strlen(key) <= STORE_KEY_MAX && s3_xml_can_carry(key);
}

void s3_delete_row(void *arg, const struct s3_row *row)
{
	struct s3_request *request = arg;
	struct store_op *op = request->op;
	size_t root_len = strlen(request->s3->root);

	if (op->opcode != STORE_DELETE_BATCH || row->kind != S3_ROW_DELETE_ERROR ||
	    strncmp(row->key, request->s3->root, root_len) != 0)
		return;
	for (size_t i = 0; i < op->key_count; i++) {
		if (strcmp(op->keys[i], row->key + root_len) == 0)
			op->key_results[i] = s3_error_of_key(row->code);
	}
}

bool s3_delete_begin(struct s3_request *request)
{
	struct store_op *op = request->op;
	bool any = false;

	for (size_t i = 0; i < op->key_count; i++) {
		bool batch = s3_delete_in_batch(request->s3, op->keys[i]);

		op->key_results[i] = batch ? 0 : PENDING;
		any |= batch;
	}
	return any;
}

int s3_delete_next(struct s3_request *request)
{
	struct store_op *op = request->op;

	for (size_t i = 0; i < op->key_count; i++) {
		if (op->key_results[i] != PENDING)
			continue;
		if (strlen(request->s3->root) + strlen(op->keys[i]) > STORE_KEY_MAX) {
			op->key_results[i] = 0; /* no such object can exist */
			continue;
		}
		request->step = STEP_SINGLE;
		request->key_index = i;
		request->region_tried = request->credentials_tried = false;
		s3_request_send(request);
		return 1;
	}
	return 0;
}

void s3_delete_single_end(struct s3_request *request, int result)
{
	request->op->key_results[request->key_index] = result == -ENOENT ? 0 : result;
	if (s3_delete_next(request) == 0)
		s3_request_finish(request, 0);
}
