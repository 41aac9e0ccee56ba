/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls fstat newfstatat */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048
#define LOG_LIMIT_BURST 10
#define NSEC_PER_SEC 1000000000ull

static _Atomic int log_threshold = LOG_LEVEL_INFO;
static _Atomic int log_journal = -1; /* -1: not looked at yet */
static _Thread_local const char *log_context;

static const struct {
	const char *name;
	const char *priority; /* sd-daemon(3) prefix */
} log_levels[] = {
	[LOG_LEVEL_ERROR] = { "error", "<3>" }, [LOG_LEVEL_WARN] = { "warn", "<4>" },
	[LOG_LEVEL_INFO] = { "info", "<6>" },	[LOG_LEVEL_DEBUG] = { "debug", "<7>" },
	[LOG_LEVEL_TRACE] = { "trace", "<7>" },
};

bool log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < ARRAY_SIZE(log_levels); i++) {
		if (strcmp(name, log_levels[i].name) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *log_level_name(enum log_level level)
{
	return log_levels[level].name;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_threshold, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

void log_set_journal(bool journal)
{
	atomic_store_explicit(&log_journal, journal, memory_order_relaxed);
}

void log_set_thread_context(const char *context)
{
	log_context = context;
}

/* systemd sets JOURNAL_STREAM=device:inode of the stream it gave us; stderr
 * may have been redirected since (sd-journal, systemd.exec(5)). */
static bool log_to_journal(void)
{
	int journal = atomic_load_explicit(&log_journal, memory_order_relaxed);
	unsigned long long dev, ino;
	const char *stream;
	struct stat st;

	if (journal >= 0)
		return journal;
	stream = getenv("JOURNAL_STREAM");
	journal = stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
		  fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
	atomic_store_explicit(&log_journal, journal, memory_order_relaxed);
	return journal;
}

static size_t log_prefix(char *line, size_t size, enum log_level level, const char *event)
{
	char when[32] = "";
	struct timespec now;
	struct tm tm;
	int n;

	if (log_to_journal()) {
		n = snprintf(line, size, "%s%s", log_levels[level].priority, event);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, size, "%s.%03ldZ %s %s", when, now.tv_nsec / 1000000,
			     log_levels[level].name, event);
	}
	if (n > 0 && (size_t)n < size && log_context)
		n += snprintf(line + n, size - (size_t)n, " %s", log_context);
	return MIN((size_t)MAX(n, 0), size - 1);
}

/* Escapes control bytes of @src as \xNN into @dst; returns the length. */
static size_t log_escape(char *dst, size_t size, const char *src)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src && n + 4 < size; src++) {
		unsigned char c = (unsigned char)*src;

		if (c >= 0x20 && c != 0x7f) {
			dst[n++] = (char)c;
			continue;
		}
		dst[n++] = '\\';
		dst[n++] = 'x';
		dst[n++] = hex[c >> 4];
		dst[n++] = hex[c & 15];
	}
	return n;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char line[LOG_LINE_MAX], body[LOG_LINE_MAX / 2];
	int saved_errno = errno;
	ssize_t written;
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(body, sizeof(body), fmt, ap);
	va_end(ap);

	n = log_prefix(line, sizeof(line) - 2, level, event);
	if (body[0]) {
		line[n++] = ' ';
		n += log_escape(line + n, sizeof(line) - n - 1, body);
	}
	line[n++] = '\n';
	do {
		written = write(STDERR_FILENO, line, n);
	} while (written < 0 && errno == EINTR);
	errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit, uint32_t *swallowed)
{
	struct timespec ts;
	uint64_t now, last;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	last = atomic_load_explicit(&limit->last_ns, memory_order_relaxed);
	if (atomic_load_explicit(&limit->spent, memory_order_relaxed) >= LOG_LIMIT_BURST) {
		/* One line a second once the burst is spent; who swaps the
		 * time stamp in has the right to that line. */
		if (now - last < NSEC_PER_SEC ||
		    !atomic_compare_exchange_strong(&limit->last_ns, &last, now)) {
			atomic_fetch_add_explicit(&limit->swallowed, 1, memory_order_relaxed);
			return false;
		}
	} else {
		atomic_fetch_add_explicit(&limit->spent, 1, memory_order_relaxed);
		atomic_store_explicit(&limit->last_ns, now, memory_order_relaxed);
	}
	*swallowed = atomic_exchange_explicit(&limit->swallowed, 0, memory_order_relaxed);
	return true;
}
