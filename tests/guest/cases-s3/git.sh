# SPDX-License-Identifier: Apache-2.0
# CASE: git: clone into the bucket, commit, gc, fsck, and clone out of it
# TOOLS: debian
# LIMIT: 300

export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q "$TMPDIR/origin"
cd "$TMPDIR/origin"
for i in 1 2 3 4 5 6 7 8; do
	mkdir -p d$i/e
	seq $((i * 1000)) >d$i/e/file
	git add .
	git commit -qm "commit $i"
done
cd -
git clone -q --no-local "$TMPDIR/origin" clone
cd clone
git fsck --strict
[ -z "$(git status --porcelain)" ]
[ "$(git rev-parse HEAD)" = "$(git -C "$TMPDIR/origin" rev-parse HEAD)" ]
git checkout -qb branch
sed -i s/7/seven/ d3/e/file
echo new >new
git add new
git commit -qam changed
git mv d4 renamed
git commit -qm renamed
git checkout -q master 2>/dev/null || git checkout -q main
[ -d d4 ]
git merge -q branch
git gc -q
git fsck --strict
cd ..
git clone -q --no-local clone "$TMPDIR/back"
git -C "$TMPDIR/back" fsck --strict
diff -r --exclude=.git clone "$TMPDIR/back"
[ "$(git -C clone rev-parse HEAD)" = "$(git -C "$TMPDIR/back" rev-parse HEAD)" ]
