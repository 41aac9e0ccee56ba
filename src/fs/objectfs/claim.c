/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/objectfs/claim.h"

#include <string.h>

#include "base/util.h"

void claim_begin(struct tree *t, struct claim *c, const struct node *parent, const char *name)
{
	c->parent = parent;
	c->name = name;
	c->len = strlen(name);
	list_push_back(&t->claims, &c->link);
	inquiries_overtake(t, parent, name, c->len);
}

void claim_end(struct claim *c)
{
	list_remove(&c->link);
}

bool claim_is(const struct tree *t, const struct node *parent, const char *name, size_t len)
{
	const struct list *pos;

	list_for_each (pos, &t->claims) {
		const struct claim *c = list_entry(pos, struct claim, link);

		if (c->parent == parent && c->len == len && !memcmp(c->name, name, len))
			return true;
	}
	return false;
}

void inquiry_begin(struct tree *t, struct inquiry *q, const struct node *parent, const char *name,
		   size_t len)
{
	*q = (struct inquiry){ .parent = parent, .name = name, .len = len };
	list_push_back(&t->inquiries, &q->link);
}

bool inquiry_end(struct inquiry *q)
{
	list_remove(&q->link);
	return !q->overtaken;
}

static struct inquiry *inquiry_at(struct list *pos, const struct node *parent, const char *name,
				  size_t len)
{
	struct inquiry *q = list_entry(pos, struct inquiry, link);

	return q->parent == parent && q->len == len && !memcmp(q->name, name, len) ? q : NULL;
}

void inquiries_overtake(struct tree *t, const struct node *parent, const char *name, size_t len)
{
	struct list *pos;

	list_for_each (pos, &t->inquiries) {
		struct inquiry *q = inquiry_at(pos, parent, name, len);

		if (q)
			q->overtaken = true;
	}
}

void inquiries_stir(struct tree *t, const struct node *dir)
{
	const struct node *parent = node_peek(t, dir->parent);
	struct list *pos;

	list_for_each (pos, &t->inquiries) {
		struct inquiry *q = inquiry_at(pos, parent, dir->name, dir->name_len);

		if (q)
			q->stirred = true;
	}
}
