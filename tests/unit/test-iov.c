/* SPDX-License-Identifier: Apache-2.0 */
/* The iovec cursor never reads or writes outside its segments, however they are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/iov.h"
#include "base/util.h"

#define DATA_MAX 64

/* Cuts @data into random segments, empty ones among them; returns their count. */
static size_t cut(struct iovec *iov, size_t max, char *data, size_t len)
{
	size_t n = 0, off = 0;

	while (off < len && n + 1 < max) {
		size_t part = (size_t)(rand() % 7);

		part = MIN(part, len - off);
		iov[n++] = (struct iovec){ data + off, part };
		off += part;
	}
	iov[n++] = (struct iovec){ data + off, len - off };
	return n;
}

static void reads_across_segments(void **state)
{
	char data[DATA_MAX], copy[DATA_MAX + 8];
	struct iovec iov[DATA_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)(rand() % DATA_MAX), done = 0;
		struct iov_cursor c = iov_cursor(iov, cut(iov, DATA_MAX, data, len));

		assert_int_equal(iov_len(&c), len);
		memset(copy, 0x55, sizeof(copy));
		while (done < len) {
			size_t want = (size_t)(rand() % 9);
			size_t got = iov_read(&c, copy + done, want);

			assert_int_equal(got, MIN(want, len - done));
			done += got;
			assert_int_equal(iov_len(&c), len - done);
		}
		assert_memory_equal(copy, data, len);
		assert_int_equal(iov_read(&c, copy, 8), 0);
	}
}

static void writes_and_zeroes_across_segments(void **state)
{
	char data[DATA_MAX], model[DATA_MAX], source[DATA_MAX];
	struct iovec iov[DATA_MAX];

	(void)state;
	memset(source, 0x7e, sizeof(source));
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)(rand() % DATA_MAX);
		size_t skip = (size_t)(rand() % 10), n = (size_t)(rand() % 20);
		struct iov_cursor c = iov_cursor(iov, cut(iov, DATA_MAX, data, len));

		memset(data, 1, sizeof(data));
		memset(model, 1, sizeof(model));
		skip = iov_skip(&c, skip);
		n = iov_write(&c, source, n);
		memset(model + skip, 0x7e, n);
		memset(model + skip + n, 0, iov_zero(&c, 5));
		assert_memory_equal(data, model, sizeof(data));
	}
}

/* Both ways, with ends on and beside a multiple of what is copied at once. */
static void copies_what_is_large(void **state)
{
	static const size_t lengths[] = { 256 << 10,	   (256 << 10) + 1,  (512 << 10) - 1,
					  (512 << 10) + 7, (1 << 20) + 4096, 3 << 20 };
	static unsigned char from[(3 << 20) + 64], to[(3 << 20) + 64];

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 2654435761u >> 11);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (int write = 0; write < 2; write++) {
			size_t len = lengths[i];
			struct iovec v[2] = { { (write ? to : from) + 3, len },
					      { (write ? to : from) + 3 + len, 9 } };
			struct iov_cursor c = iov_cursor(v, 2);

			memset(to, 0, sizeof(to));
			if (write)
				assert_int_equal(iov_write(&c, from + 3, len + 5), len + 5);
			else
				assert_int_equal(iov_read(&c, to + 3, len + 5), len + 5);
			assert_memory_equal(from + 3, to + 3, len + 5);
			assert_int_equal(to[2] | to[3 + len + 5], 0);
		}
	}
}

static void take_describes_the_same_bytes(void **state)
{
	char data[DATA_MAX], joined[DATA_MAX];
	struct iovec iov[DATA_MAX], out[DATA_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)i;
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)(rand() % DATA_MAX), done = 0;
		struct iov_cursor c = iov_cursor(iov, cut(iov, DATA_MAX, data, len));

		while (done < len) {
			size_t bytes, sum = 0;
			size_t n = iov_take(&c, 1 + (size_t)(rand() % 30), out,
					    1 + (size_t)(rand() % 3), &bytes);

			assert_true(n > 0);
			for (size_t i = 0; i < n; i++) {
				assert_true(out[i].iov_len > 0);
				memcpy(joined + done + sum, out[i].iov_base, out[i].iov_len);
				sum += out[i].iov_len;
			}
			assert_int_equal(sum, bytes);
			done += bytes;
		}
		assert_memory_equal(joined, data, len);
		assert_int_equal(iov_take(&c, 1, out, 1, NULL), 0);
	}
}

static void length_saturates(void **state)
{
	struct iovec iov[2] = { { NULL, SIZE_MAX - 1 }, { NULL, 2 } };
	struct iov_cursor c = iov_cursor(iov, 2);

	(void)state;
	assert_int_equal(iov_len(&c), SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_across_segments),
		cmocka_unit_test(writes_and_zeroes_across_segments),
		cmocka_unit_test(copies_what_is_large),
		cmocka_unit_test(take_describes_the_same_bytes),
		cmocka_unit_test(length_saturates),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
