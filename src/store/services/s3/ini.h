/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared configuration and credentials files of the AWS tools ("Shared config and
 * credentials files" of the AWS SDKs and Tools reference guide): sections in brackets,
 * "name = value", comments behind # or ;, and indented lines that belong to the value above.
 *
 * A pure function over a text: no I/O, no allocation. Any thread.
 */
#ifndef OVFS_STORE_SERVICES_S3_INI_H
#define OVFS_STORE_SERVICES_S3_INI_H

#include <stdbool.h>
#include <stddef.h>

/* A part of the text; not NUL-terminated, blanks at its ends removed. */
struct s3_ini_slice {
	const char *at;
	size_t len;
};

struct s3_ini_item {
	struct s3_ini_slice section; /* what the brackets hold */
	struct s3_ini_slice name;    /* at NULL: the section begins here */
	struct s3_ini_slice value;
};

/*
 * Hands every section and every property of a section to @item, in order. Lines that are
 * neither are left out, with the properties below a broken heading; indented lines (nested
 * settings, which concern no credentials) are left out, too. Returns the number of the first broken
 * line, 0 for none.
 */
unsigned s3_ini_parse(const char *text, size_t len,
		      void (*item)(void *arg, const struct s3_ini_item *item), void *arg);

/* Whether @section is that of profile @profile: "[NAME]" in the credentials file; in the
 * @config file "[profile NAME]", NAME in quotes or not, or "[default]". */
bool s3_ini_is_profile(struct s3_ini_slice section, const char *profile, bool config);

/* Names of properties do not distinguish case. */
bool s3_ini_name_is(struct s3_ini_slice name, const char *other);

#endif
