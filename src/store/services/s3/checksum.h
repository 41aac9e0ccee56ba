/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums that S3 checks bodies by: CRC32C, CRC64NVME, MD5, in base64 as its headers
 * carry them. Pure computation; a running checksum belongs to one thread at a time.
 */
#ifndef OVFS_STORE_SERVICES_S3_CHECKSUM_H
#define OVFS_STORE_SERVICES_S3_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/iov.h"

enum s3_checksum_kind {
	S3_CHECKSUM_OFF,
	S3_CHECKSUM_CRC32C,
	S3_CHECKSUM_CRC64NVME,
	S3_CHECKSUM_MD5,
};

#define S3_CHECKSUM_TEXT 32 /* base64 of the longest, with the NUL */

/* "off", "crc32c", "crc64nvme", "md5", in any case; false for others. */
bool s3_checksum_parse(const char *name, enum s3_checksum_kind *kind);

/* CRC32C (Castagnoli, reflected); @crc is 0 at first, then what the call before gave. */
uint32_t s3_crc32c(uint32_t crc, const void *data, size_t len);

/* CRC-64/NVME, likewise. */
uint64_t s3_crc64nvme(uint64_t crc, const void *data, size_t len);

/* One of the two CRCs as it grows. */
struct s3_crc {
	enum s3_checksum_kind kind;
	uint64_t value;
};
void s3_crc_add(struct s3_crc *crc, const void *data, size_t len);
void s3_crc_text(const struct s3_crc *crc, char text[static S3_CHECKSUM_TEXT]);

/* The checksum of the next @len bytes of @data. 0, or -EIO when the crypto library has
 * no MD5. */
int s3_checksum_body(enum s3_checksum_kind kind, struct iov_cursor data, uint64_t len,
		     char text[static S3_CHECKSUM_TEXT]);

/* MD5 of memory, in base64. */
int s3_md5_text(const void *data, size_t len, char text[static S3_CHECKSUM_TEXT]);

/* Decodes base64 of exactly @len bytes; false for anything else. */
bool s3_base64_decode(const char *text, unsigned char *out, size_t len);

#endif
