# SPDX-License-Identifier: Apache-2.0
# CASE: a program is compiled on a bucket, and runs from there
# TOOLS: debian
# LIMIT: 240

for i in $(seq 20); do
	echo "int f$i(int x) { return x + $i; }" >f$i.c
done
{
	echo '#include <stdio.h>'
	for i in $(seq 20); do echo "int f$i(int);"; done
	echo 'int main(void) { int s = 0;'
	for i in $(seq 20); do echo "s = f$i(s);"; done
	echo 'printf("%d\n", s); return 0; }'
} >main.c
cat >Makefile <<'END'
OBJECTS = $(patsubst %.c,%.o,$(wildcard f*.c))
prog: libf.a main.o
	$(CC) -o $@ main.o -L. -lf
libf.a: $(OBJECTS)
	$(AR) rcs $@ $^
END
make -j2 >log
[ "$(./prog)" = 210 ]
make -q
sleep 1
touch f3.c
refused make -q
make
make -q
