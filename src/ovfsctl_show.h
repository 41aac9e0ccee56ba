/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The half of ovfsctl that shows: one function for each kind of answer, which writes to stdout.
 * All borrow what they are given. What is missing in it is shown as nothing or 0: the daemon may
 * be of another version.
 */
#ifndef OVFS_OVFSCTL_SHOW_H
#define OVFS_OVFSCTL_SHOW_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

void show_status(const json_t *result);
void show_all_requests(const json_t *result);
void show_dirty(const json_t *files);
/* Names and values, one a line; records apart. */
void show_records(const json_t *records);
void show_level(const json_t *result);
void show_dropped(const json_t *result);
void show_done(const json_t *result);

/* How far what takes long is. */
void show_tasks(FILE *out, const json_t *tasks);

/* A member of an object; "" or 0 when there is none. */
const char *string_at(const json_t *object, const char *key);
int64_t number_at(const json_t *object, const char *key);

/* @s without what a terminal could take for a command of its own. Good for four calls. */
const char *printable(const char *s);

#endif
