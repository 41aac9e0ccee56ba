/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct err {
	char *msg;
};

static struct err err_nomem = { .msg = (char *)"out of memory" };

/* Takes ownership of @msg, which may be NULL for lack of memory. */
static struct err *err_take(char *msg)
{
	struct err *e = msg ? malloc(sizeof(*e)) : NULL;

	if (!e) {
		free(msg);
		return &err_nomem;
	}
	e->msg = msg;
	return e;
}

static char *err_vformat(const char *fmt, va_list ap)
{
	char *msg = NULL;

	return vasprintf(&msg, fmt, ap) < 0 ? NULL : msg;
}

static char *err_join(char *head, const char *tail)
{
	char *msg = NULL;

	if (head && asprintf(&msg, "%s: %s", head, tail) < 0)
		msg = NULL;
	free(head);
	return msg;
}

struct err *err_new(const char *fmt, ...)
{
	va_list ap;
	char *msg;

	va_start(ap, fmt);
	msg = err_vformat(fmt, ap);
	va_end(ap);
	return err_take(msg);
}

struct err *err_errno(int errnum, const char *fmt, ...)
{
	va_list ap;
	char *msg;

	va_start(ap, fmt);
	msg = err_vformat(fmt, ap);
	va_end(ap);
	return err_take(err_join(msg, strerror(errnum)));
}

struct err *err_wrap(struct err *e, const char *fmt, ...)
{
	va_list ap;
	char *msg;

	va_start(ap, fmt);
	msg = err_vformat(fmt, ap);
	va_end(ap);
	msg = err_join(msg, e->msg);
	err_free(e);
	return err_take(msg);
}

const char *err_msg(const struct err *e)
{
	return e->msg;
}

void err_free(struct err *e)
{
	if (!e || e == &err_nomem)
		return;
	free(e->msg);
	free(e);
}
