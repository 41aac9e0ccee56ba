/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes and durations as people write them.
 *
 *	size		"4GiB", "512KiB", "1MB", "4096", "4096B": an integer and a unit.
 *			KiB, MiB, GiB, TiB (or K, M, G, T) are powers of 1024; kB, KB,
 *			MB, GB, TB powers of 1000
 *	duration	"60s", "1m30s", "100ms", "1.5s", "0": numbers each with one of
 *			ns us ms s m h d, added up; only 0 goes without a unit
 */
#ifndef OVFS_CONF_UNITS_H
#define OVFS_CONF_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNITS_TEXT_MAX 64

/* False when @text is not a size or does not fit into 64 bits; in bytes. */
bool units_parse_size(const char *text, uint64_t *bytes);

/* In nanoseconds. */
bool units_parse_duration(const char *text, uint64_t *ns);

/* The shortest exact text, which the parsers read back to the same value. At
 * least UNITS_TEXT_MAX bytes at @buf, which is returned. */
char *units_format_size(uint64_t bytes, char *buf);
char *units_format_duration(uint64_t ns, char *buf);

#endif
