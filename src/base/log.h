/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line an event, "event key=value key=value".
 *
 *	log_warn("request_malformed", "opcode=%u len=%u", opcode, len);
 *
 * writes
 *
 *	2026-01-02T03:04:05.678Z warn request_malformed opcode=1 len=12
 *
 * to stderr, or without the time and with a syslog priority when stderr is
 * the journal (JOURNAL_STREAM). A line is one write(2). Bytes that would break
 * the line are escaped, so a guest's file name cannot forge an event; values
 * with blanks are quoted by the caller ("path=\"%s\""). Secrets never enter a
 * log call: configuration masks them before it formats.
 *
 * Any thread. What a guest can trigger at will uses log_limited(), which lets
 * a burst through and then counts what it swallows.
 */
#ifndef OVFS_BASE_LOG_H
#define OVFS_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE,
};

/* "error", "warn", "info", "debug", "trace"; false when @name is none. */
bool log_level_parse(const char *name, enum log_level *level);
const char *log_level_name(enum log_level level);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
bool log_enabled(enum log_level level);

/* The journal's form (priority, no time) or ours; chosen by what stderr is
 * unless this was called. */
void log_set_journal(bool journal);

/* Prefix of every line of this thread ("mount=NAME"), a string that outlives
 * the thread's logging; NULL for none. */
void log_set_thread_context(const char *context);

void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A token bucket for one call site or object: 10 lines, then one each second.
 * Zero-initialised is ready. */
struct log_limit {
	_Atomic uint64_t last_ns;
	_Atomic uint32_t spent;
	_Atomic uint32_t swallowed;
};

/* True when the event may be logged; *@swallowed is the count since the last. */
bool log_limit_pass(struct log_limit *limit, uint32_t *swallowed);

#define log_at(level, event, ...)                                                                  \
	do {                                                                                       \
		if (unlikely(log_enabled(level)))                                                  \
			log_event(level, event, __VA_ARGS__);                                      \
	} while (0)

#define log_error(event, ...) log_at(LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_at(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_at(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_at(LOG_LEVEL_DEBUG, event, __VA_ARGS__)

#define log_limited(limit, level, event, fmt, ...)                                                 \
	do {                                                                                       \
		uint32_t swallowed_;                                                               \
		if (log_enabled(level) && log_limit_pass(limit, &swallowed_))                      \
			log_event(level, event, fmt " swallowed=%u" __VA_OPT__(, ) __VA_ARGS__,    \
				  swallowed_);                                                     \
	} while (0)

#endif
