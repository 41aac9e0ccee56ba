/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of set-up and configuration: a message for a person.
 *
 * The hot path returns negative errno; everything that a person has to put
 * right (a file, a key, a missing privilege) returns a struct err *, NULL for
 * success. The caller owns it and either wraps and returns it or prints and
 * frees it. Creation never fails: out of memory yields a static error, which
 * err_free() knows. Any thread; an error belongs to one thread at a time.
 */
#ifndef OVFS_BASE_ERR_H
#define OVFS_BASE_ERR_H

#include "base/util.h"

struct err;

struct err *err_new(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((warn_unused_result));

/* As err_new(), followed by ": " and the text of errnum (a positive errno). */
struct err *err_errno(int errnum, const char *fmt, ...) PRINTF_LIKE(2, 3)
	__attribute__((warn_unused_result));

/* Puts "context: " before the message of @e, which is consumed. */
struct err *err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3)
	__attribute__((warn_unused_result));

/* The message, valid until err_free(). No trailing newline. */
const char *err_msg(const struct err *e);

/* Accepts NULL. */
void err_free(struct err *e);

#endif
