/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soakload: random operations of several clients at one time, each checked against a model.
 *
 *	soakload SECONDS SEED TOLERANT DATASETS SOCKET...
 *
 * Each socket gets a client, that is a guest without a kernel: it works in a folder of its own,
 * c0, c1, ..., on up to FILES files, of which it has a copy in memory; whatever it reads is
 * compared with that. Besides it reads objects that were there before, data0 ..., DATA_SIZE bytes
 * each, whose bytes follow from their places. TOLERANT 1: errors are counted, and the file is given
 * up; wrong bytes never.
 *
 * When the time is over, all is synced, and stdout gets a line "file PATH SIZE CRC" for each file
 * that there has to be, for somebody who looks into the bucket; and one JSON object with what was
 * done. The exit code is 1 when anything was wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fuc.h"

#define FILES 16u
#define FILE_MAX (3u << 20)
#define IO_MAX (128u << 10)
#define CLIENTS_MAX 64
#define PAST 12u
#define DATA_SIZE (24ull << 20)

enum op {
	OP_WRITE,
	OP_APPEND,
	OP_READ,
	OP_READ_ALL,
	OP_TRUNCATE,
	OP_FSYNC,
	OP_REOPEN,
	OP_RENAME,
	OP_UNLINK,
	OP_UNLINK_OPEN,
	OP_STAT,
	OP_LIST,
	OP_SYNCFS,
	OP_DATA_RANDOM,
	OP_DATA_STREAM,
	OPS
};
static const struct {
	const char *name;
	unsigned int weight;
} ops[OPS] = {
	[OP_WRITE] = { "write", 200 },
	[OP_APPEND] = { "append", 120 },
	[OP_READ] = { "read", 200 },
	[OP_READ_ALL] = { "read_all", 15 },
	[OP_TRUNCATE] = { "truncate", 30 },
	[OP_FSYNC] = { "fsync", 15 },
	[OP_REOPEN] = { "reopen", 40 },
	[OP_RENAME] = { "rename", 8 },
	[OP_UNLINK] = { "unlink", 12 },
	[OP_UNLINK_OPEN] = { "unlink_open", 3 },
	[OP_STAT] = { "stat", 60 },
	[OP_LIST] = { "list", 4 },
	[OP_SYNCFS] = { "syncfs", 1 },
	[OP_DATA_RANDOM] = { "data_random", 120 },
	[OP_DATA_STREAM] = { "data_stream", 60 },
};

struct file {
	char name[24]; /* "": none */
	uint64_t node, fh;
	uint8_t *data;
	uint32_t size;
	char past[PAST][48]; /* what was done with it, the latest at past_end - 1 */
	unsigned int past_end;
};

struct client {
	struct vuc c;
	struct fuc f;
	pthread_t thread;
	const char *socket;
	unsigned int number, names;
	uint64_t random;
	uint64_t dir;
	struct file file[FILES];
	uint64_t data_node[16], data_fh[16], data_at; /* data_at: of the stream */
	uint64_t done[OPS], errors, wrong, bytes_written, bytes_read;
	double longest; /* seconds, of one step, */
	enum op longest_op;
	uint8_t buf[IO_MAX], zeros[1];
};

static struct {
	double end;
	bool tolerant;
	unsigned int datasets, clients;
	struct client *client;
	pthread_mutex_t print;
} soak = { .print = PTHREAD_MUTEX_INITIALIZER };

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint32_t draw(struct client *c, uint32_t below)
{
	uint64_t x = c->random;

	x ^= x << 13, x ^= x >> 7, x ^= x << 17;
	c->random = x;
	return below ? (uint32_t)((x >> 32) % below) : 0;
}

/* The same as bench/soak's data_block(). */
static uint8_t data_byte(unsigned int dataset, uint64_t offset)
{
	return (uint8_t)((offset >> 12) * 31 + (offset & 4095) * 7 + dataset * 101 + 1);
}

static void fill(struct client *c, uint8_t *p, uint32_t len)
{
	uint32_t seed = draw(c, UINT32_MAX);

	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)((seed >> (i % 23)) + i);
}

static void complain(struct client *c, const struct file *f, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void complain(struct client *c, const struct file *f, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&soak.print);
	fprintf(stderr, "soak: c%u/%s: ", c->number, f ? f->name : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; before:", stderr);
	for (unsigned int i = 0; f && i < PAST; i++)
		fprintf(stderr, " %s", f->past[(f->past_end + i) % PAST]);
	fputc('\n', stderr);
	pthread_mutex_unlock(&soak.print);
}

/* For the next complaint. */
static void note(struct file *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct file *f, const char *format, ...)
{
	char *past = f->past[f->past_end++ % PAST];
	int n = snprintf(past, sizeof(f->past[0]), "%.2f:", now());
	va_list args;

	va_start(args, format);
	vsnprintf(past + n, sizeof(f->past[0]) - (size_t)n, format, args);
	va_end(args);
}

/* @f is not known any more: out of the model, and out of the way. */
static void give_up(struct client *c, struct file *f)
{
	fuc_release(&c->f, f->node, f->fh);
	fuc_unlink(&c->f, c->dir, f->name);
	fuc_forget(&c->f, f->node, 1);
	f->name[0] = '\0';
}

/* An operation on @f failed. */
static void failed(struct client *c, struct file *f, const char *what, int err)
{
	c->errors++;
	if (!soak.tolerant)
		complain(c, f, "%s: %s", what, strerror(-err));
	if (f)
		give_up(c, f);
}

static void compare(struct client *c, struct file *f, uint32_t at, int got, uint32_t wanted)
{
	if ((uint32_t)got != wanted) {
		complain(c, f, "read %d bytes at %u of %u, not %u", got, at, f->size, wanted);
		c->wrong++;
		return;
	}
	for (uint32_t i = 0; i < wanted; i++) {
		if (c->buf[i] == f->data[at + i])
			continue;
		complain(c, f, "byte %u of %u is %02x, not %02x", at + i, f->size, c->buf[i],
			 f->data[at + i]);
		c->wrong++;
		return;
	}
}

/* ---- Files ---- */

static bool create(struct client *c, struct file *f)
{
	struct fuse_entry_out e;
	int err;

	snprintf(f->name, sizeof(f->name), "f%u", c->names++);
	err = fuc_create(&c->f, c->dir, f->name, O_RDWR | O_CREAT | O_EXCL, 0100644, &e, &f->fh);
	if (err) {
		c->errors++;
		if (!soak.tolerant)
			complain(c, f, "create: %s", strerror(-err));
		f->name[0] = '\0';
		return false;
	}
	f->node = e.nodeid;
	f->size = 0;
	note(f, "create");
	return true;
}

static void write_at(struct client *c, struct file *f, uint32_t at)
{
	uint32_t len = 1 + draw(c, draw(c, 4) ? 8192 : IO_MAX);
	int n;

	if (at + len > FILE_MAX)
		return;
	fill(c, c->buf, len);
	n = fuc_write(&c->f, f->node, f->fh, at, c->buf, len);
	if (n != (int)len) {
		failed(c, f, "write", n < 0 ? n : -EIO);
		return;
	}
	if (at > f->size)
		memset(f->data + f->size, 0, at - f->size);
	memcpy(f->data + at, c->buf, len);
	f->size = at + len > f->size ? at + len : f->size;
	c->bytes_written += len;
	note(f, "write(%u,%u)", at, len);
}

static void read_at(struct client *c, struct file *f, uint32_t at, uint32_t len)
{
	uint32_t wanted = at >= f->size ? 0 : f->size - at < len ? f->size - at : len;
	int n = fuc_read(&c->f, f->node, f->fh, at, c->buf, len);

	if (n < 0) {
		failed(c, f, "read", n);
		return;
	}
	c->bytes_read += (uint32_t)n;
	compare(c, f, at, n, wanted);
}

static void read_all(struct client *c, struct file *f)
{
	for (uint32_t at = 0; at < f->size && f->name[0]; at += IO_MAX)
		read_at(c, f, at, IO_MAX);
}

static void resize(struct client *c, struct file *f)
{
	uint32_t size = draw(c, 3) ? draw(c, f->size + 1) : draw(c, FILE_MAX);
	struct fuse_setattr_in in = { .valid = FATTR_SIZE | FATTR_FH, .fh = f->fh, .size = size };
	int err = fuc_setattr(&c->f, f->node, &in, NULL);

	if (err) {
		failed(c, f, "truncate", err);
		return;
	}
	if (size > f->size)
		memset(f->data + f->size, 0, size - f->size);
	f->size = size;
	note(f, "truncate(%u)", size);
}

static void reopen(struct client *c, struct file *f)
{
	struct fuse_entry_out e;
	int err = fuc_flush(&c->f, f->node, f->fh, 1);
	char name[24];

	memcpy(name, f->name, sizeof(name));
	if (err) {
		failed(c, f, "flush", err);
		return;
	}
	fuc_release(&c->f, f->node, f->fh);
	/* As a guest that has forgotten it. */
	fuc_forget(&c->f, f->node, 1);
	err = fuc_lookup(&c->f, c->dir, name, &e);
	if (!err && e.nodeid)
		err = fuc_open_file(&c->f, e.nodeid, O_RDWR, &f->fh);
	else if (!err)
		err = -ENOENT;
	if (err) {
		c->errors++;
		if (!soak.tolerant || err == -ENOENT)
			complain(c, f, "reopen: %s", strerror(-err));
		c->wrong += err == -ENOENT; /* it was there */
		fuc_unlink(&c->f, c->dir, name);
		f->name[0] = '\0';
		return;
	}
	f->node = e.nodeid;
	note(f, "reopen");
	if (e.attr.size != f->size) {
		complain(c, f, "size is %llu, not %u", (unsigned long long)e.attr.size, f->size);
		c->wrong++;
	}
}

static void rename_file(struct client *c, struct file *f)
{
	struct file *over = &c->file[draw(c, FILES)];
	char name[24];
	int err;

	/* Over another one, or to a new name. */
	if (over == f || !over->name[0])
		snprintf(name, sizeof(name), "f%u", c->names++);
	else
		memcpy(name, over->name, sizeof(name));
	err = fuc_rename(&c->f, c->dir, f->name, c->dir, name);
	if (err) {
		/* It may have been done. */
		if (over != f && over->name[0])
			failed(c, over, "rename over", err);
		failed(c, f, "rename", err);
		fuc_unlink(&c->f, c->dir, name);
		return;
	}
	if (over != f && over->name[0]) {
		fuc_release(&c->f, over->node, over->fh);
		fuc_forget(&c->f, over->node, 1);
		over->name[0] = '\0';
	}
	note(f, "rename(%s)", name);
	memcpy(f->name, name, sizeof(name));
}

static void unlink_file(struct client *c, struct file *f, bool read_after)
{
	int err = fuc_unlink(&c->f, c->dir, f->name);

	if (err) {
		failed(c, f, "unlink", err);
		return;
	}
	/* What is removed is there for who has it open; of old versions what was in memory. */
	if (read_after && f->size <= IO_MAX) {
		int n = fuc_read(&c->f, f->node, f->fh, 0, c->buf, IO_MAX);

		if (n >= 0)
			compare(c, f, 0, n, f->size);
		else if (n != -ESTALE && n != -EIO)
			complain(c, f, "read of a removed file: %s", strerror(-n));
	}
	fuc_release(&c->f, f->node, f->fh);
	fuc_forget(&c->f, f->node, 1);
	f->name[0] = '\0';
}

static void stat_file(struct client *c, struct file *f)
{
	struct fuse_attr attr;
	int err = fuc_getattr(&c->f, f->node, &attr);

	if (err) {
		failed(c, f, "getattr", err);
	} else if (attr.size != f->size) {
		complain(c, f, "size is %llu, not %u", (unsigned long long)attr.size, f->size);
		c->wrong++;
	}
}

/* The names are those of the model. */
static void list_files(struct client *c)
{
	unsigned int found = 0, wanted = 0;
	uint64_t fh, offset = 0;
	int got, err = fuc_opendir(&c->f, c->dir, &fh);

	if (err) {
		c->errors++;
		return;
	}
	while ((got = fuc_readdir(&c->f, c->dir, fh, offset, c->buf, 32768)) > 0) {
		for (int at = 0; at < got;) {
			const struct fuse_dirent *e = (const void *)(c->buf + at);

			for (unsigned int i = 0; i < FILES; i++)
				found += strlen(c->file[i].name) == e->namelen && e->namelen &&
					 !memcmp(c->file[i].name, e->name, e->namelen);
			offset = e->off;
			at += (int)FUSE_DIRENT_SIZE(e);
		}
	}
	fuc_releasedir(&c->f, c->dir, fh);
	if (got < 0) {
		c->errors++;
		return;
	}
	for (unsigned int i = 0; i < FILES; i++)
		wanted += c->file[i].name[0] != '\0';
	if (found != wanted) {
		complain(c, NULL, "%u of %u files are listed", found, wanted);
		c->wrong++;
	}
}

/* ---- What was there before ---- */

static void read_data(struct client *c, unsigned int k, uint64_t at, uint32_t len)
{
	int n = fuc_read(&c->f, c->data_node[k], c->data_fh[k], at, c->buf, len);
	uint64_t wanted = DATA_SIZE - at < len ? DATA_SIZE - at : len;

	if (n < 0) {
		c->errors++;
		if (!soak.tolerant)
			complain(c, NULL, "data%u: %s", k, strerror(-n));
		return;
	}
	c->bytes_read += (uint32_t)n;
	for (uint64_t i = 0; (uint64_t)n == wanted && i < wanted; i++) {
		if (c->buf[i] != data_byte(k, at + i))
			wanted = 0;
	}
	if ((uint64_t)n != wanted) {
		complain(c, NULL, "data%u is wrong at %llu", k, (unsigned long long)at);
		c->wrong++;
	}
}

/* ---- The run ---- */

static void step(struct client *c, enum op op)
{
	struct file *f = &c->file[draw(c, FILES)];

	c->done[op]++;
	if (op < OP_LIST && !f->name[0] && !create(c, f))
		return;
	switch (op) {
	case OP_WRITE:
		write_at(c, f, draw(c, f->size + (draw(c, 8) ? 1 : 65536)));
		break;
	case OP_APPEND:
		write_at(c, f, f->size);
		break;
	case OP_READ:
		read_at(c, f, draw(c, f->size + 1), 1 + draw(c, draw(c, 4) ? 16384 : IO_MAX));
		break;
	case OP_READ_ALL:
		read_all(c, f);
		break;
	case OP_TRUNCATE:
		resize(c, f);
		break;
	case OP_FSYNC: {
		int err = fuc_fsync(&c->f, f->node, f->fh, false);

		if (err)
			failed(c, f, "fsync", err);
		else
			note(f, "fsync");
		break;
	}
	case OP_REOPEN:
		reopen(c, f);
		break;
	case OP_RENAME:
		rename_file(c, f);
		break;
	case OP_UNLINK:
	case OP_UNLINK_OPEN:
		unlink_file(c, f, op == OP_UNLINK_OPEN);
		break;
	case OP_STAT:
		stat_file(c, f);
		break;
	case OP_LIST:
		list_files(c);
		break;
	case OP_SYNCFS:
		if (fuc_syncfs(&c->f, FUSE_ROOT_ID))
			c->errors++;
		break;
	case OP_DATA_RANDOM:
		read_data(c, draw(c, soak.datasets), draw(c, (uint32_t)DATA_SIZE), 4096);
		break;
	case OP_DATA_STREAM:
		read_data(c, c->number % soak.datasets, c->data_at, IO_MAX);
		c->data_at = c->data_at + IO_MAX < DATA_SIZE ? c->data_at + IO_MAX : 0;
		break;
	case OPS:
		break;
	}
}

static int mount_client(struct client *c)
{
	const struct vuc_config config = { .queues = 2,
					   .queue_size = 128,
					   .indirect = true,
					   .event_idx = true,
					   .indirect_max = 600,
					   .mem_size = 32u << 20,
					   .timeout_ms = 600000 };
	const struct fuc_options options = { .requests = 16, .request_mem = 160u << 10 };
	int err = vuc_open(&c->c, c->socket, &config);

	if (!err)
		err = fuc_open(&c->f, &c->c, &options);
	if (!err)
		err = fuc_init_default(&c->f);
	c->f.queue = 1;
	c->f.timeout_ms = 600000;
	return err;
}

static int open_all(struct client *c)
{
	struct fuse_entry_out e;
	char name[32];
	int err;

	snprintf(name, sizeof(name), "c%u", c->number);
	err = fuc_mkdir(&c->f, FUSE_ROOT_ID, name, 0755, &e);
	c->dir = e.nodeid;
	for (unsigned int k = 0; k < soak.datasets && !err; k++) {
		snprintf(name, sizeof(name), "data%u", k);
		err = fuc_lookup(&c->f, FUSE_ROOT_ID, name, &e);
		if (!err)
			err = fuc_open_file(&c->f, e.nodeid, O_RDONLY, &c->data_fh[k]);
		c->data_node[k] = e.nodeid;
	}
	for (unsigned int i = 0; i < FILES; i++)
		c->file[i].data = malloc(FILE_MAX);
	return err;
}

static void finish(struct client *c)
{
	for (unsigned int i = 0; i < FILES; i++) {
		struct file *f = &c->file[i];
		int err;

		if (!f->name[0])
			continue;
		read_all(c, f);
		err = f->name[0] ? fuc_fsync(&c->f, f->node, f->fh, false) : 0;
		if (err)
			failed(c, f, "fsync", err);
	}
	list_files(c);
}

static void *client_run(void *arg)
{
	struct client *c = arg;
	unsigned int sum = 0;
	double start;

	for (unsigned int i = 0; i < OPS; i++)
		sum += ops[i].weight;
	while (now() < soak.end && c->wrong < 10) {
		unsigned int n = draw(c, sum), op = 0;

		while (n >= ops[op].weight)
			n -= ops[op++].weight;
		start = now();
		step(c, (enum op)op);
		if (now() - start > c->longest) {
			c->longest = now() - start;
			c->longest_op = (enum op)op;
		}
	}
	finish(c);
	return NULL;
}

static uint32_t crc32_of(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffffu;

	while (len-- > 0) {
		crc ^= *p++;
		for (unsigned int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

static int report(void)
{
	uint64_t done[OPS] = { 0 }, errors = 0, wrong = 0, written = 0, bytes = 0, all = 0;
	const struct client *longest = &soak.client[0];

	for (unsigned int i = 0; i < soak.clients; i++) {
		struct client *c = &soak.client[i];

		for (unsigned int k = 0; k < FILES; k++) {
			if (c->file[k].name[0])
				printf("file c%u/%s %u %08x\n", c->number, c->file[k].name,
				       c->file[k].size, crc32_of(c->file[k].data, c->file[k].size));
		}
		for (unsigned int k = 0; k < OPS; k++) {
			done[k] += c->done[k];
			all += c->done[k];
		}
		if (c->longest > longest->longest)
			longest = c;
		errors += c->errors;
		wrong += c->wrong;
		written += c->bytes_written;
		bytes += c->bytes_read;
	}
	printf("{\"operations\": %llu, \"errors\": %llu, \"wrong\": %llu, \"bytes_written\": %llu, "
	       "\"bytes_read\": %llu, \"longest\": [%.1f, \"%s\"]",
	       (unsigned long long)all, (unsigned long long)errors, (unsigned long long)wrong,
	       (unsigned long long)written, (unsigned long long)bytes, longest->longest,
	       ops[longest->longest_op].name);
	for (unsigned int k = 0; k < OPS; k++)
		printf(", \"%s\": %llu", ops[k].name, (unsigned long long)done[k]);
	printf("}\n");
	return wrong || (errors && !soak.tolerant);
}

int main(int argc, char **argv)
{
	if (argc < 6 || argc > 5 + CLIENTS_MAX) {
		fprintf(stderr, "usage: soakload SECONDS SEED TOLERANT DATASETS SOCKET...\n");
		return 2;
	}
	soak.end = now() + atof(argv[1]);
	soak.tolerant = atoi(argv[3]);
	soak.datasets = (unsigned int)atoi(argv[4]);
	soak.clients = (unsigned int)argc - 5;
	soak.client = calloc(soak.clients, sizeof(*soak.client));
	if (!soak.client || soak.datasets - 1 >= 16)
		return 2;
	for (unsigned int i = 0; i < soak.clients; i++) {
		struct client *c = &soak.client[i];
		int err;

		c->number = i;
		c->socket = argv[5 + i];
		c->random = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + i + 1;
		err = mount_client(c);
		if (!err)
			err = open_all(c);
		if (err) {
			complain(c, NULL, "mount: %s", strerror(-err));
			return 1;
		}
	}
	for (unsigned int i = 0; i < soak.clients; i++)
		pthread_create(&soak.client[i].thread, NULL, client_run, &soak.client[i]);
	for (unsigned int i = 0; i < soak.clients; i++)
		pthread_join(soak.client[i].thread, NULL);
	return report();
}
