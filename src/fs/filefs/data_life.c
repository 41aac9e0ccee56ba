/* SPDX-License-Identifier: Apache-2.0 */
/* The cached files of a directory: beginning and end. See filefs.h for the order of it all. */
#include <errno.h>
#include <stdlib.h>

#include "base/list.h"
#include "fs/filefs/data.h"
#include "fs/filefs/internal.h"

/* Requests that wait for files, and what the cache asks of them: so many at a time each. */
#define DATA_THREADS 16

struct err *filefs_data_new(struct filefs_data **out, struct loop *loop)
{
	struct filefs_data *data = calloc(1, sizeof(*data));
	struct err *e;

	if (!data)
		return err_errno(ENOMEM, "cached files");
	pthread_mutex_init(&data->lock, NULL);
	list_init(&data->lingering);
	for (unsigned i = 0; i < DATA_BUCKETS; i++)
		list_init(&data->buckets[i]);
	e = data_store_new(data, loop);
	if (!e)
		e = workers_new(&data->io, "ovfs-data", DATA_THREADS);
	if (!e)
		e = workers_new(&data->readers, "ovfs-file", DATA_THREADS);
	if (e) {
		if (data->store)
			store_free(data->store);
		filefs_data_free(data);
		return e;
	}
	*out = data;
	return NULL;
}

struct store *filefs_data_store(struct filefs_data *data)
{
	return data->store;
}

void filefs_data_start(struct filefs_data *data, struct cache_storage *cache, bool write_back)
{
	data->cache = cache;
	atomic_store(&data->write_back, write_back);
}

void filefs_data_set_write_back(struct filefs_data *data, bool write_back)
{
	atomic_store(&data->write_back, write_back);
}

/* All but the descriptors: the cache may be reading still. */
void filefs_data_stop(struct filefs_data *data)
{
	struct list *pos;

	workers_free(data->io);
	data->io = NULL;
	pthread_mutex_lock(&data->lock);
	for (unsigned i = 0; i < DATA_BUCKETS; i++) {
		list_for_each (pos, &data->buckets[i]) {
			struct datafile *d = list_entry(pos, struct datafile, link);

			if (d->fs)
				filefs_fd_release(d->fs);
			d->fs = NULL;
			d->uses++; /* until filefs_data_free() */
			cache_file_put(d->file);
			d->file = NULL;
		}
	}
	pthread_mutex_unlock(&data->lock);
}

void filefs_data_free(struct filefs_data *data)
{
	if (!data)
		return;
	workers_free(data->readers);
	workers_free(data->io);
	for (unsigned i = 0; i < DATA_BUCKETS; i++) {
		struct list *pos;

		while ((pos = list_pop_front(&data->buckets[i])))
			data_free(list_entry(pos, struct datafile, link));
	}
	pthread_mutex_destroy(&data->lock);
	free(data);
}
