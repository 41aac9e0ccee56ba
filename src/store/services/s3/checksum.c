/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRCs by tables, eight bytes at a step ("slicing by eight": table[k][b] is the CRC of
 * byte b followed by k zero bytes), and CRC32C by the processor's own instruction where it has
 * one.
 */
#include "store/services/s3/checksum.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#include <openssl/evp.h>

#include "base/util.h"

#define CRC32C_POLY 0x82f63b78u		  /* 0x1edc6f41 with its bits reversed */
#define CRC64NVME_POLY 0x9a6c9329ac4bc9b5 /* 0xad93d23594c93659 with its bits reversed */
#define CHECKSUM_SEGMENTS 16

static uint32_t crc32c_table[8][256];
static uint64_t crc64_table[8][256];
static uint32_t (*crc32c_step)(uint32_t crc, const unsigned char *data, size_t len);

/* ---- The steps; @crc is inverted already ---- */

static uint32_t crc32c_by_table(uint32_t crc, const unsigned char *data, size_t len)
{
	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		word = le64toh(word) ^ crc;
		crc = 0;
		for (unsigned i = 0; i < 8; i++)
			crc ^= crc32c_table[7 - i][word >> (8 * i) & 0xff];
	}
	for (; len; len--)
		crc = crc >> 8 ^ crc32c_table[0][(crc ^ *data++) & 0xff];
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc32c_by_sse42(uint32_t crc, const unsigned char *data, size_t len)
{
	uint64_t wide = crc;

	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	for (; len; len--)
		crc = _mm_crc32_u8(crc, *data++);
	return crc;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
static uint32_t crc32c_by_arm(uint32_t crc, const unsigned char *data, size_t len)
{
	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		crc = __crc32cd(crc, word);
	}
	for (; len; len--)
		crc = __crc32cb(crc, *data++);
	return crc;
}
#endif

static uint64_t crc64_by_table(uint64_t crc, const unsigned char *data, size_t len)
{
	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		word = le64toh(word) ^ crc;
		crc = 0;
		for (unsigned i = 0; i < 8; i++)
			crc ^= crc64_table[7 - i][word >> (8 * i) & 0xff];
	}
	for (; len; len--)
		crc = crc >> 8 ^ crc64_table[0][(crc ^ *data++) & 0xff];
	return crc;
}

static void checksum_init(void)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint32_t crc32 = byte;
		uint64_t crc64 = byte;

		for (int bit = 0; bit < 8; bit++) {
			crc32 = crc32 >> 1 ^ (crc32 & 1 ? CRC32C_POLY : 0);
			crc64 = crc64 >> 1 ^ (crc64 & 1 ? CRC64NVME_POLY : 0);
		}
		crc32c_table[0][byte] = crc32;
		crc64_table[0][byte] = crc64;
	}
	for (unsigned k = 1; k < 8; k++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			uint32_t crc32 = crc32c_table[k - 1][byte];
			uint64_t crc64 = crc64_table[k - 1][byte];

			crc32c_table[k][byte] = crc32 >> 8 ^ crc32c_table[0][crc32 & 0xff];
			crc64_table[k][byte] = crc64 >> 8 ^ crc64_table[0][crc64 & 0xff];
		}
	}
	crc32c_step = crc32c_by_table;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		crc32c_step = crc32c_by_sse42;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
	crc32c_step = crc32c_by_arm;
#endif
}

static void checksum_ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, checksum_init);
}

/* ---- Outside ---- */

uint32_t s3_crc32c(uint32_t crc, const void *data, size_t len)
{
	checksum_ready();
	return ~crc32c_step(~crc, data, len);
}

uint64_t s3_crc64nvme(uint64_t crc, const void *data, size_t len)
{
	checksum_ready();
	return ~crc64_by_table(~crc, data, len);
}

bool s3_checksum_parse(const char *name, enum s3_checksum_kind *kind)
{
	static const char *const names[] = {
		[S3_CHECKSUM_OFF] = "off",
		[S3_CHECKSUM_CRC32C] = "crc32c",
		[S3_CHECKSUM_CRC64NVME] = "crc64nvme",
		[S3_CHECKSUM_MD5] = "md5",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcasecmp(name, names[i]) == 0) {
			*kind = (enum s3_checksum_kind)i;
			return true;
		}
	}
	return false;
}

void s3_crc_add(struct s3_crc *crc, const void *data, size_t len)
{
	if (crc->kind == S3_CHECKSUM_CRC32C)
		crc->value = s3_crc32c((uint32_t)crc->value, data, len);
	else if (crc->kind == S3_CHECKSUM_CRC64NVME)
		crc->value = s3_crc64nvme(crc->value, data, len);
}

static void base64_text(const unsigned char *raw, int len, char text[static S3_CHECKSUM_TEXT])
{
	EVP_EncodeBlock((unsigned char *)text, raw, len);
}

void s3_crc_text(const struct s3_crc *crc, char text[static S3_CHECKSUM_TEXT])
{
	uint64_t wide = htobe64(crc->value);
	uint32_t narrow = htobe32((uint32_t)crc->value);

	if (crc->kind == S3_CHECKSUM_CRC64NVME)
		base64_text((const unsigned char *)&wide, sizeof(wide), text);
	else
		base64_text((const unsigned char *)&narrow, sizeof(narrow), text);
}

static int md5_end(EVP_MD_CTX *context, bool good, char text[static S3_CHECKSUM_TEXT])
{
	unsigned char raw[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	good = good && EVP_DigestFinal_ex(context, raw, &len) == 1 && len == 16;
	EVP_MD_CTX_free(context);
	if (!good)
		return -EIO;
	base64_text(raw, (int)len, text);
	return 0;
}

static int md5_body(struct iov_cursor data, uint64_t len, char text[static S3_CHECKSUM_TEXT])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context && EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1;
	struct iovec iov[CHECKSUM_SEGMENTS];
	size_t count, bytes;

	while (len && good) {
		count = iov_take(&data, (size_t)len, iov, ARRAY_SIZE(iov), &bytes);
		if (!count)
			break;
		for (size_t i = 0; i < count && good; i++)
			good = EVP_DigestUpdate(context, iov[i].iov_base, iov[i].iov_len) == 1;
		len -= bytes;
	}
	return md5_end(context, good, text);
}

int s3_md5_text(const void *data, size_t len, char text[static S3_CHECKSUM_TEXT])
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };

	return md5_body(iov_cursor(&iov, 1), len, text);
}

int s3_checksum_body(enum s3_checksum_kind kind, struct iov_cursor data, uint64_t len,
		     char text[static S3_CHECKSUM_TEXT])
{
	struct s3_crc crc = { .kind = kind };
	struct iovec iov[CHECKSUM_SEGMENTS];
	size_t count, bytes;

	if (kind == S3_CHECKSUM_MD5)
		return md5_body(data, len, text);
	while (len) {
		count = iov_take(&data, (size_t)len, iov, ARRAY_SIZE(iov), &bytes);
		if (!count)
			break;
		for (size_t i = 0; i < count; i++)
			s3_crc_add(&crc, iov[i].iov_base, iov[i].iov_len);
		len -= bytes;
	}
	s3_crc_text(&crc, text);
	return 0;
}

bool s3_base64_decode(const char *text, unsigned char *out, size_t len)
{
	size_t text_len = strlen(text), padding = 0;
	unsigned char raw[96];
	int n;

	if (text_len != (len + 2) / 3 * 4 || text_len / 4 * 3 > sizeof(raw))
		return false;
	while (padding < 2 && padding < text_len && text[text_len - 1 - padding] == '=')
		padding++;
	n = EVP_DecodeBlock(raw, (const unsigned char *)text, (int)text_len);
	if (n < 0 || (size_t)n - padding != len)
		return false;
	memcpy(out, raw, len);
	return true;
}
