/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/build.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define COMPONENT_MAX 255

struct conf_section *ovfs_section_first(struct conf_load *load)
{
	struct conf_section *top = conf_load_top(load);
	struct conf_section *first = conf_section_first(top);

	return first ? first : top;
}

static size_t count_sections(const struct conf_section *first)
{
	size_t count = 0;

	for (; first; first = conf_section_next(first))
		count++;
	return count;
}

static bool build_directories(struct ovfs_mount *mount, struct conf_section *section)
{
	struct conf_section *inner = conf_section_first(section);
	struct ovfs_directory *directory;

	mount->directories = calloc(count_sections(inner), sizeof(*mount->directories));
	if (!mount->directories)
		return false;
	for (; inner; inner = conf_section_next(inner)) {
		directory = &mount->directories[mount->directory_count++];
		conf_section_fill(inner, CONF_BACKEND, &directory->backend);
		conf_section_fill(inner, CONF_DIRECTORY, directory);
	}
	return true;
}

static bool build_mount(struct ovfs_mount *mount, struct conf_section *section)
{
	mount->socket.fd = OVFS_SOCKET_FD_NONE;
	mount->socket.gid = OVFS_SOCKET_GID_NONE;
	conf_section_fill(section, CONF_MOUNT, mount);
	if (!mount->implicit && conf_section_first(section))
		return build_directories(mount, section);
	conf_section_fill(section, CONF_BACKEND, &mount->backend);
	return true;
}

/* The name goes into the log, metrics and ovfsctl's command line. */
static bool name_is_good(const char *name)
{
	return strspn(name, NAME_LETTERS) > 0 && strspn(name, NAME_LETTERS "._-") == strlen(name) &&
	       strlen(name) <= OVFS_NAME_MAX;
}

static bool build_name(struct ovfs_mount *mount, const struct conf_section *section)
{
	static const char key[] = "mount.name";

	if (mount->implicit) {
		mount->name = strdup("default");
		return mount->name != NULL;
	}
	if (mount->name && !name_is_good(mount->name))
		conf_section_problem(section, key,
				     "\"%s\": expected a letter or digit, then letters, digits, "
				     "dots, dashes and underscores",
				     mount->name);
	if (mount->name)
		return true;
	if (!mount->socket.tag)
		conf_section_problem(section, key,
				     "required: the mount needs a name, or a tag that can be one");
	else if (!name_is_good(mount->socket.tag))
		conf_section_problem(section, key,
				     "required, for the tag \"%s\" is no name of letters, digits, "
				     "dots, dashes and underscores",
				     mount->socket.tag);
	mount->name = strdup(mount->socket.tag ? mount->socket.tag : "");
	return mount->name != NULL;
}

/* What only one may have. */
struct unique {
	const char *key;
	const struct conf_section *section;
	const char *value;
	const char *owner; /* a mount's name; NULL: not a mount's */
};

struct unique_set {
	struct unique *item;
	size_t count, room;
	bool (*same)(const char *a, const char *b);
};

static bool same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* The same path, but for slashes. */
static bool same_path(const char *a, const char *b)
{
	while (*a && *a == *b) {
		if (*a == '/') {
			a += strspn(a, "/");
			b += strspn(b, "/");
		} else {
			a++;
			b++;
		}
	}
	return !*a && !*b;
}

/* "a" and "a/b": the one is inside of the other. */
static bool overlapping(const char *a, const char *b)
{
	size_t len = MIN(strlen(a), strlen(b));

	return memcmp(a, b, len) == 0 && (!a[len] || a[len] == '/') && (!b[len] || b[len] == '/');
}

static void unique_add(struct unique_set *set, const struct conf_section *section, const char *key,
		       const char *value, const char *owner)
{
	char place[PATH_MAX + 16], by[128] = "";
	struct unique *grown;

	if (!value || !value[0])
		return;
	for (size_t i = 0; i < set->count; i++) {
		const struct unique *other = &set->item[i];

		if (!set->same(other->value, value))
			continue;
		/* Of the command line, for several mounts: check_options() says that. */
		if (strcmp(other->key, key) == 0 &&
		    conf_load_option(conf_section_load(section), key))
			return;
		if (other->owner)
			snprintf(by, sizeof(by), " (mount \"%.64s\")", other->owner);
		conf_section_place(other->section, other->key, place, sizeof(place));
		conf_section_problem(section, key, "\"%s\" is taken already, at %s%s", value, place,
				     by);
		return;
	}
	if (set->count == set->room) {
		grown = reallocarray(set->item, 2 * set->room + 16, sizeof(*grown));
		if (!grown)
			return;
		set->item = grown;
		set->room = 2 * set->room + 16;
	}
	set->item[set->count++] = (struct unique){ key, section, value, owner };
}

static void check_sockets_unique(struct conf_load *load, const struct ovfs_config *config)
{
	struct unique_set set = { .same = same_path };
	const struct conf_section *top = conf_load_top(load);
	const struct conf_section *section = ovfs_section_first(load);
	const char *listen = config->metrics.listen;

	unique_add(&set, top, "ctl_settings.socket_path", config->ctl.path, NULL);
	if (listen && strncmp(listen, "unix:", 5) == 0)
		unique_add(&set, top, "metrics_settings.listen", listen + 5, NULL);
	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *mount = &config->mounts[i];

		for (size_t s = 0; s < mount->socket.path.count; s++)
			unique_add(&set, section, "socket_settings.socket_path",
				   mount->socket.path.item[s], mount->name);
		section = conf_section_next(section);
	}
	free(set.item);
}

static void check_names_unique(struct conf_load *load, const struct ovfs_config *config)
{
	struct unique_set names = { .same = same_text }, tags = { .same = same_text };
	const struct conf_section *section = ovfs_section_first(load);

	for (size_t i = 0; i < config->mount_count; i++) {
		const struct ovfs_mount *mount = &config->mounts[i];

		unique_add(&names, section, "mount.name", mount->name, mount->name);
		unique_add(&tags, section, "socket_settings.tag", mount->socket.tag, mount->name);
		section = conf_section_next(section);
	}
	free(names.item);
	free(tags.item);
}

static bool directory_path_is_good(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (len == 0 || len > COMPONENT_MAX || (len == 1 && path[0] == '.') ||
		    (len == 2 && memcmp(path, "..", 2) == 0))
			return false;
		if (!path[len])
			return true;
		path += len + 1;
	}
}

static void check_directories(const struct ovfs_mount *mount, const struct conf_section *section)
{
	static const char key[] = "directory.path";
	struct unique_set paths = { .same = overlapping };
	const struct conf_section *inner = conf_section_first(section);

	for (size_t i = 0; i < mount->directory_count; i++, inner = conf_section_next(inner)) {
		const char *path = mount->directories[i].path;

		if (!path) {
			if (!conf_section_has(inner, key))
				conf_section_problem(inner, key,
						     "required: where it is seen in the mount");
		} else if (!directory_path_is_good(path)) {
			conf_section_problem(inner, key,
					     "\"%s\": expected a relative path such as \"data\" or "
					     "\"data/2024\", without \".\" and \"..\"",
					     path);
		} else {
			unique_add(&paths, inner, key, path, NULL);
		}
	}
	free(paths.item);
}

/* What the command line says of one mount, when there are several. */
static void check_options(struct conf_load *load, const struct ovfs_config *config)
{
	static const char *const keys[] = {
		"socket_settings.socket_path",
		"socket_settings.fd",
		"socket_settings.tag",
		"storage_settings.root",
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *option = conf_load_option(load, keys[i]);

		if (option && (config->mount_count > 1 || config->mounts[0].directory_count > 0))
			conf_load_problem_option(load, option,
						 "is for one mount with one storage, and the "
						 "configuration has several: say it there");
	}
}

bool ovfs_config_build(struct conf_load *load, struct ovfs_config *config)
{
	struct conf_section *top = conf_load_top(load);
	struct conf_section *section = ovfs_section_first(load);

	config->ctl.gid = OVFS_SOCKET_GID_NONE;
	conf_section_fill(top, CONF_DAEMON, config);
	config->mounts = calloc(count_sections(section), sizeof(*config->mounts));
	if (!config->mounts)
		return false;
	for (; section; section = conf_section_next(section)) {
		struct ovfs_mount *mount = &config->mounts[config->mount_count++];

		mount->implicit = section == top;
		if (!build_mount(mount, section) || !build_name(mount, section))
			return false;
		check_directories(mount, section);
	}
	check_names_unique(load, config);
	check_sockets_unique(load, config);
	check_options(load, config);
	return true;
}
