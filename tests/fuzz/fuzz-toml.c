/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration file of any bytes: parsed, loaded into the tables, printed.
 * What loads without a problem must come back the same after it is printed.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The printed configuration, or NULL when there were problems. */
static char *load_and_print(const char *text, size_t len)
{
	struct conf_files *files = conf_files_new();
	struct ovfs_config config;
	struct conf_load *load;
	char *printed = NULL;
	size_t problems, printed_len;
	FILE *out;

	if (!files)
		abort();
	conf_files_seal(files); /* it could name any file */
	load = ovfs_config_load_new(files);
	if (!load)
		abort();
	conf_load_text(load, "fuzz", text, len);
	ovfs_config_check(load, &config);
	conf_load_problems(load, &problems);
	if (problems == 0) {
		out = open_memstream(&printed, &printed_len);
		if (!out)
			abort();
		ovfs_config_print(&config, out);
		fclose(out);
	}
	conf_load_free(load);
	conf_files_free(files);
	ovfs_config_free(&config);
	return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *once, *twice;

	once = load_and_print((const char *)data, size);
	if (!once)
		return 0;
	twice = load_and_print(once, strlen(once));
	if (!twice || strcmp(once, twice) != 0)
		abort();
	free(once);
	free(twice);
	return 0;
}
