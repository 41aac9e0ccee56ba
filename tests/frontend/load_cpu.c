/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time of the daemon: the whole process tree, since it may fork. See load.h. */
#include "load.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PROCS 4096

struct proc {
	pid_t pid, ppid;
	uint64_t ticks; /* own and reaped children's, user and system */
	bool in_tree;
};

/* /proc/PID/stat; the command in parentheses may hold anything, so from the last one on. */
static bool read_stat(pid_t pid, struct proc *p)
{
	char path[64], line[1024];
	unsigned long long ut, st;
	long long cut, cst;
	char *rest;
	int ppid;
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	n = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[n] = '\0';
	rest = strrchr(line, ')');
	if (!rest ||
	    sscanf(rest + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %lld %lld",
		   &ppid, &ut, &st, &cut, &cst) != 5)
		return false;
	*p = (struct proc){
		.pid = pid,
		.ppid = ppid,
		.ticks = ut + st + (uint64_t)cut + (uint64_t)cst,
	};
	return true;
}

static size_t read_all(struct proc *procs, size_t max)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	size_t n = 0;

	if (!dir)
		return 0;
	while (n < max && (d = readdir(dir)))
		if (isdigit((unsigned char)d->d_name[0]) &&
		    read_stat((pid_t)atoi(d->d_name), &procs[n]))
			n++;
	closedir(dir);
	return n;
}

int64_t load_cpu_us(pid_t pid)
{
	struct proc *procs = calloc(MAX_PROCS, sizeof(*procs));
	uint64_t ticks = 0;
	bool grew = true, found = false;
	size_t n;

	if (!procs)
		return -ENOMEM;
	n = read_all(procs, MAX_PROCS);
	for (size_t i = 0; i < n; i++)
		if (procs[i].pid == pid)
			procs[i].in_tree = found = true;
	/* Children until no more are found; trees here are two or three deep. */
	while (grew) {
		grew = false;
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; !procs[i].in_tree && k < n; k++)
				if (procs[k].in_tree && procs[k].pid == procs[i].ppid)
					procs[i].in_tree = grew = true;
	}
	for (size_t i = 0; i < n; i++)
		if (procs[i].in_tree)
			ticks += procs[i].ticks;
	free(procs);
	if (!found)
		return -ESRCH;
	return (int64_t)(ticks * 1000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}
