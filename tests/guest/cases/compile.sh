# SPDX-License-Identifier: Apache-2.0
# CASE: a small C project is compiled and run
# TOOLS: debian
# LIMIT: 60

for i in 1 2 3 4 5; do
	echo "int f$i(int x) { return x + $i; }" >f$i.c
done
cat >main.c <<'END'
#include <stdio.h>
int f1(int), f2(int), f3(int), f4(int), f5(int);
int main(void) { printf("%d\n", f1(f2(f3(f4(f5(0)))))); return 0; }
END
cat >Makefile <<'END'
OBJECTS = main.o f1.o f2.o f3.o f4.o f5.o
prog: libf.a main.o
	$(CC) -o $@ main.o -L. -lf
libf.a: f1.o f2.o f3.o f4.o f5.o
	$(AR) rcs $@ $^
END
make -j2
[ "$(./prog)" = 15 ]
make -q
[ "$(host ./prog)" = 15 ]
touch f3.c
refused make -q
make
make -q
