# SPDX-License-Identifier: Apache-2.0
# CASE: a program is compiled on a bucket, and runs from there
# TOOLS: debian
# LIMIT: 240

set +x
for i in $(seq 20); do
	echo "int f$i(int x) { return x + $i; }" >f$i.c
done
{
	cat <<'END'
#include <stdio.h>
#define CALL(n) int f##n(int);
END
	for i in $(seq 20); do echo "CALL($i)"; done
	echo '#define RUN(n) s = f##n(s);'
	echo 'int main(void) { int s = 0;'
	for i in $(seq 20); do echo "RUN($i)"; done
	cat <<'END'
printf("%d\n", s); return 0; }
END
} >main.c
cat >Makefile <<'END'
OBJECTS = $(patsubst %.c,%.o,$(wildcard f*.c))
prog: libf.a main.o
	$(CC) -o $@ main.o -L. -lf
libf.a: $(OBJECTS)
	$(AR) rcs $@ $^
END
set -x
make -j2 >log
[ "$(./prog)" = 210 ]
make -q
sleep 1
touch f3.c
refused make -q
make
make -q
