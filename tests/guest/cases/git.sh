# SPDX-License-Identifier: Apache-2.0
# CASE: git: commit, clone, gc and fsck
# TOOLS: debian
# LIMIT: 120

export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q origin
cd origin
for i in 1 2 3 4 5; do
	mkdir -p d$i/e
	seq $((i * 1000)) >d$i/e/file
	ln -s ../d1 d$i/link
	git add .
	git commit -qm "commit $i"
done
cd ..
git clone -q --no-local origin clone
git clone -q origin hardlinked
cd clone
git fsck --strict
[ -z "$(git status --porcelain)" ]
[ "$(git rev-parse HEAD)" = "$(git -C ../origin rev-parse HEAD)" ]
git checkout -qb branch
sed -i s/7/seven/ d3/e/file
git commit -qam changed
git rebase -q HEAD~1 || git rebase -q --abort
git gc -q
git fsck --strict
cd ..
diff -r --no-dereference --exclude=.git origin hardlinked
