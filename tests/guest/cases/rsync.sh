# SPDX-License-Identifier: Apache-2.0
# CASE: rsync -aHAX: the second time there is nothing left to do
# TOOLS: debian
# LIMIT: 60

mkdir src
cd src
set +x
for i in $(seq 200); do
	mkdir -p d$((i % 10))
	seq "$i" >d$((i % 10))/f"$i"
done
set -x
ln d1/f1 hard
ln -s d1/f1 soft
setfattr -n user.a -v b d2/f2
setfacl -m u:1000:r d3/f3
chown 5:6 d4/f4
cd ..
rsync -aHAX src/ dst/
[ -z "$(rsync -aHAXi --checksum src/ dst/)" ]
[ -z "$(host 'rsync -aHAXi --checksum src/ dst/')" ]
echo changed >>src/d5/f5
rm src/d6/f6
[ "$(rsync -aHAXi --delete src/ dst/ | grep -c f)" -ge 2 ]
diff -r src dst
