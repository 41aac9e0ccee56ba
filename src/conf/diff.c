/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/diff.h"

#include <stdlib.h>
#include <string.h>

#include "conf/keys.h"
#include "conf/value.h"

static bool list_equal(const struct conf_list *a, const struct conf_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->item[i], b->item[i]) != 0)
			return false;
	}
	return true;
}

static bool value_equal(const struct conf_key *key, const void *a, const void *b)
{
	if (key->type == CONF_PATHS)
		return list_equal(conf_value_list(key, a), conf_value_list(key, b));
	if (conf_value_is_string(key)) {
		const char *text_a = *conf_value_string(key, a);
		const char *text_b = *conf_value_string(key, b);

		return text_a && text_b ? strcmp(text_a, text_b) == 0 : text_a == text_b;
	}
	return conf_value_integer(key, a) == conf_value_integer(key, b);
}

void conf_diff(const struct conf_table *tables, size_t count, enum conf_scope scope, const void *a,
	       const void *b,
	       void (*found)(void *arg, const struct conf_table *table, const struct conf_key *key,
			     enum conf_change change),
	       void *arg)
{
	for (size_t t = 0; t < count; t++) {
		for (size_t k = 0; k < tables[t].key_count; k++) {
			const struct conf_key *key = &tables[t].key[k];
			enum conf_change change = key->change ? key->change : tables[t].change;

			if (key->scope != scope || key->size == 0 || value_equal(key, a, b))
				continue;
			found(arg, &tables[t], key, change ? change : CONF_CHANGE_LIVE);
		}
	}
}

static void diff_add(struct ovfs_diff *diff, const struct ovfs_change *change)
{
	struct ovfs_change *grown =
		reallocarray(diff->change, diff->count + 1, sizeof(*diff->change));

	if (!grown) {
		diff->incomplete = true;
		return;
	}
	diff->change = grown;
	diff->change[diff->count++] = *change;
}

/* Where the keys that are compared stand. */
struct diff_place {
	struct ovfs_diff *diff;
	const char *mount, *directory;
};

static void diff_key(void *arg, const struct conf_table *table, const struct conf_key *key,
		     enum conf_change change)
{
	const struct diff_place *place = arg;

	diff_add(place->diff, &(struct ovfs_change){
				      .kind = OVFS_CHANGE_KEY,
				      .when = change,
				      .mount = place->mount,
				      .directory = place->directory,
				      .table = table->name,
				      .key = key->name,
			      });
}

static void diff_scope(struct diff_place *place, enum conf_scope scope, const void *before,
		       const void *after)
{
	conf_diff(ovfs_tables, ovfs_table_count, scope, before, after, diff_key, place);
}

static const struct ovfs_mount *mount_find(const struct ovfs_config *config, const char *name)
{
	for (size_t i = 0; i < config->mount_count; i++) {
		if (strcmp(config->mounts[i].name, name) == 0)
			return &config->mounts[i];
	}
	return NULL;
}

static const struct ovfs_directory *directory_find(const struct ovfs_mount *mount, const char *path)
{
	for (size_t i = 0; i < mount->directory_count; i++) {
		if (strcmp(mount->directories[i].path, path) == 0)
			return &mount->directories[i];
	}
	return NULL;
}

static void diff_directories(struct ovfs_diff *diff, const struct ovfs_mount *before,
			     const struct ovfs_mount *after)
{
	struct ovfs_change change = { .when = CONF_CHANGE_LIVE, .mount = after->name };

	for (size_t i = 0; i < before->directory_count; i++) {
		change.kind = OVFS_CHANGE_DIRECTORY_REMOVED;
		change.directory = before->directories[i].path;
		if (!directory_find(after, change.directory))
			diff_add(diff, &change);
	}
	for (size_t i = 0; i < after->directory_count; i++) {
		const char *path = after->directories[i].path;
		const struct ovfs_directory *old = directory_find(before, path);
		struct diff_place place = { diff, after->name, path };

		change.kind = OVFS_CHANGE_DIRECTORY_ADDED;
		change.directory = path;
		if (old)
			diff_scope(&place, CONF_BACKEND, &old->backend,
				   &after->directories[i].backend);
		else
			diff_add(diff, &change);
	}
}

static void diff_mount(struct ovfs_diff *diff, const struct ovfs_mount *before,
		       const struct ovfs_mount *after)
{
	struct diff_place place = { diff, after->name, NULL };

	diff_scope(&place, CONF_MOUNT, before, after);
	if (!before->directory_count != !after->directory_count)
		diff_add(diff, &(struct ovfs_change){
				       .kind = OVFS_CHANGE_MOUNT_FORM,
				       .when = CONF_CHANGE_CONNECTION,
				       .mount = after->name,
			       });
	else if (after->directory_count > 0)
		diff_directories(diff, before, after);
	else
		diff_scope(&place, CONF_BACKEND, &before->backend, &after->backend);
}

void ovfs_config_diff(struct ovfs_diff *diff, const struct ovfs_config *before,
		      const struct ovfs_config *after)
{
	struct ovfs_change change = { .when = CONF_CHANGE_LIVE };
	struct diff_place place = { .diff = diff };

	*diff = (struct ovfs_diff){ 0 };
	for (size_t i = 0; i < before->mount_count; i++) {
		change.kind = OVFS_CHANGE_MOUNT_REMOVED;
		change.mount = before->mounts[i].name;
		if (!mount_find(after, change.mount))
			diff_add(diff, &change);
	}
	diff_scope(&place, CONF_DAEMON, before, after);
	for (size_t i = 0; i < after->mount_count; i++) {
		const struct ovfs_mount *old = mount_find(before, after->mounts[i].name);

		change.kind = OVFS_CHANGE_MOUNT_ADDED;
		change.mount = after->mounts[i].name;
		if (old)
			diff_mount(diff, old, &after->mounts[i]);
		else
			diff_add(diff, &change);
	}
}

enum conf_change ovfs_diff_needs(const struct ovfs_diff *diff, const char *mount)
{
	enum conf_change most = CONF_CHANGE_TABLE;

	for (size_t i = 0; i < diff->count; i++) {
		const struct ovfs_change *change = &diff->change[i];
		bool same =
			mount ? change->mount && strcmp(change->mount, mount) == 0 : !change->mount;

		if (same)
			most = MAX(most, change->when);
	}
	return most;
}

const char *ovfs_change_text(const struct ovfs_change *change, char *buf, size_t size)
{
	static const char *const words[] = {
		[OVFS_CHANGE_MOUNT_ADDED] = "added",
		[OVFS_CHANGE_MOUNT_REMOVED] = "removed",
		[OVFS_CHANGE_DIRECTORY_ADDED] = "added",
		[OVFS_CHANGE_DIRECTORY_REMOVED] = "removed",
		[OVFS_CHANGE_MOUNT_FORM] = "directories or one storage",
	};
	FILE *out = fmemopen(buf, size, "w");

	buf[0] = '\0';
	if (!out)
		return buf;
	if (change->mount)
		fprintf(out, "mount %s: ", change->mount);
	if (change->directory)
		fprintf(out, "directory %s: ", change->directory);
	if (change->kind == OVFS_CHANGE_KEY)
		fprintf(out, "%s.%s", change->table, change->key);
	else
		fputs(words[change->kind], out);
	fclose(out);
	buf[size - 1] = '\0';
	return buf;
}

void ovfs_diff_free(struct ovfs_diff *diff)
{
	free(diff->change);
	*diff = (struct ovfs_diff){ 0 };
}
