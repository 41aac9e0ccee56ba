/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as a storage service: STAT, READ and WRITE of those that have a datafile.
 *
 * Nothing of it may run on the transfer loop, which all files share: each operation is a job for a
 * pool of threads of its own, and comes back as a task. A file that is neither open nor dirty
 * cannot be reached: that is read-ahead which is of no use to anybody any more, -EIO.
 *
 * What was read is in the pool then, so it is dropped from the host's page cache, except where
 * that is the file system itself. READs have no condition: see cache/inplace.c.
 */
/* #syscalls preadv2 pwritev2 statx utimensat fadvise64 readlinkat */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/filefs/creds.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

struct data_store {
	struct store store;
	struct filefs_data *data;
};

struct data_job {
	struct work work;
	struct loop_task task;
	struct store_op *op;
	struct datafile *file;
	uint64_t done;
	int result;
};

static struct data_store *data_store_of(struct store *store)
{
	return container_of(store, struct data_store, store);
}

/* All of the range: what is beyond the end of the file is zeros. */
static int job_read(struct data_job *job)
{
	const struct store_op *op = job->op;
	struct iov_cursor to = op->data;
	struct iovec iov[IOV_MAX];

	while (job->done < op->length) {
		struct iov_cursor rest = to;
		size_t count = iov_take(&rest, op->length - job->done, iov, IOV_MAX, NULL);
		ssize_t n =
			preadv2(job->file->fd, iov, (int)count, (off_t)(op->offset + job->done), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			n = (ssize_t)iov_zero(&to, op->length - job->done);
		else
			iov_skip(&to, (size_t)n);
		job->done += (uint64_t)n;
	}
	if (!job->file->memory)
		posix_fadvise(job->file->fd, (off_t)op->offset, (off_t)op->length,
			      POSIX_FADV_DONTNEED);
	return 0;
}

static int write_range(int fd, struct iov_cursor *from, const struct store_range *range)
{
	struct iovec iov[IOV_MAX];
	uint64_t done = 0;

	while (done < range->length) {
		struct iov_cursor rest = *from;
		size_t count = iov_take(&rest, range->length - done, iov, IOV_MAX, NULL);
		ssize_t n = pwritev2(fd, iov, (int)count, (off_t)(range->offset + done), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		iov_skip(from, (size_t)n);
		done += (uint64_t)n;
	}
	return 0;
}

/* The time of the data is that of the guest's write, unless somebody wrote since. That the host
 * refuses (a file of somebody else's, on a network file system) is no failure of the write. */
static void write_time(int fd, int64_t former_ns, int64_t time_ns)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT },
				  { .tv_sec = time_ns / 1000000000,
				    .tv_nsec = time_ns % 1000000000 } };

	if (time_ns > 0 && former_ns <= time_ns)
		futimens(fd, ts);
}

/* The cache knows no names: which file it is that cannot be written. */
static void log_failure(const struct datafile *d, int error)
{
	static struct log_limit limit;
	char name[16], path[PATH_MAX];
	ssize_t n;

	snprintf(name, sizeof(name), "%d", d->fd);
	n = readlinkat(d->proc_self_fd, name, path, sizeof(path));
	log_limited(&limit, LOG_LEVEL_WARN, "file_not_written",
		    "key=\"%s\" path=\"%.*s\" error=\"%s\"", d->key, (int)MAX(n, 0), path,
		    strerror(-error));
}

static int job_write(struct data_job *job)
{
	struct store_op *op = job->op;
	struct datafile *d = job->file;
	struct iov_cursor from = op->data;
	struct store_meta former;
	bool kill;
	int ret;

	ret = data_stat(d->fd, &former);
	if (ret < 0)
		return ret;
	kill = atomic_exchange(&d->kill, false);
	creds_kill_suidgid(kill);
	for (size_t i = 0; i < op->range_count && ret == 0; i++)
		ret = write_range(d->fd, &from, &op->ranges[i]);
	if (ret < 0) {
		if (kill)
			atomic_store(&d->kill, true);
		log_failure(d, ret);
		return ret;
	}
	if (op->set_user_mtime)
		write_time(d->fd, former.mtime_ns, op->user_mtime_ns);
	memcpy(op->former, former.etag, sizeof(op->former));
	return data_stat(d->fd, &op->meta);
}

static void job_done(struct loop_task *task)
{
	struct data_job *job = container_of(task, struct data_job, task);
	struct store_op *op = job->op;
	int result = job->result;

	store_op_moved(op, job->done);
	data_put(job->file);
	free(job);
	store_op_complete(op, result);
}

static void job_run(struct work *work)
{
	struct data_job *job = container_of(work, struct data_job, work);

	switch (job->op->opcode) {
	case STORE_READ:
		job->result = job_read(job);
		break;
	case STORE_WRITE:
		job->result = job_write(job);
		break;
	default:
		job->result = data_stat(job->file->fd, &job->op->meta);
	}
	job->task.run = job_done;
	loop_post(job->op->top->loop, &job->task);
}

static void data_store_submit(struct store *store, struct store_op *op)
{
	struct filefs_data *data = data_store_of(store)->data;
	struct data_job *job;

	if (op->opcode != STORE_STAT && op->opcode != STORE_READ && op->opcode != STORE_WRITE) {
		store_op_complete(op, -EOPNOTSUPP);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		store_op_complete(op, -ENOMEM);
		return;
	}
	job->op = op;
	job->file = data_find(data, op->key);
	if (!job->file) {
		free(job);
		store_op_complete(op, -EIO);
		return;
	}
	job->work.run = job_run;
	workers_submit(data->readers, &job->work);
}

static void data_store_free(struct store *store)
{
	free(data_store_of(store));
}

static const struct store_ops data_store_ops = {
	.name = "fs",
	.submit = data_store_submit,
	.free = data_store_free,
};

struct err *data_store_new(struct filefs_data *data, struct loop *loop)
{
	struct data_store *store = calloc(1, sizeof(*store));

	if (!store)
		return err_errno(ENOMEM, "file storage");
	store_init(&store->store, &data_store_ops, loop);
	store->data = data;
	store->store.caps = (struct store_caps){
		.write_range = true,
		.user_mtime = true,
		.put_max = DATA_SIZE_MAX,
	};
	data->store = &store->store;
	return NULL;
}
