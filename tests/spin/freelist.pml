/* SPDX-License-Identifier: Apache-2.0 */
/*
 * src/cache/pool_list.c and the draining of src/cache/pool_slab.c, for spin: a list, two
 * slabs of two blocks and one, threads that take and return blocks, and one that carves
 * a slab, drains it, and carves it again or gives up. Each line below that touches a shared
 * word is one step there, as one atomic instruction is in C; the order of memory accesses
 * is that of the program (the C code uses acquire and release throughout).
 *
 * Checked: no block is held twice or lost, the list is whole at the end, and a slab is bare
 * only when nobody has any of its blocks. THREADS and ROUNDS set the size; with LIST_ONLY
 * nobody drains, two blocks are on the list at first, and so more rounds are possible.
 *
 * BUG_* leave out what the code has for a reason; spin has to find out (see run.sh):
 *	BUG_TAG		words do not count their changes
 *	BUG_CLOSE	pop does not close the last block's link
 *	BUG_HELP	pop does not care for tail
 *	BUG_RECHECK	push does not look at tail again
 *	BUG_ASIDE	blocks are set aside without a second look under the lock
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif

/* Blocks 1 and 2 are slab A, 3 is slab B. */
#ifdef LIST_ONLY
#define BLOCKS 2
#else
#define BLOCKS 3
#endif
#define IN_A(b) (b <= 2)
#define NONE 0
#define SENTINEL 4
#define ASIDE 5
#define CLOSED 6

byte link_id[5], link_tag[5];
byte tail_id = SENTINEL, tail_tag;
bool held[4]; /* a thread uses it */
bool draining; /* A */
byte aside; /* blocks of A */
byte running = THREADS;

#ifdef BUG_TAG
#define NEXT(tag) tag
#else
#define NEXT(tag) (tag + 1)
#endif

inline read_link(x, id, tag) { d_step { id = link_id[x]; tag = link_tag[x] } }
inline read_tail(id, tag) { d_step { id = tail_id; tag = tail_tag } }

inline set_link(x, what) { d_step { link_id[x] = what; link_tag[x] = NEXT(link_tag[x]) } }

inline change_link(x, id, tag, what)
{
	d_step {
		ok = link_id[x] == id && link_tag[x] == tag;
		if
		:: ok -> link_id[x] = what; link_tag[x] = NEXT(tag)
		:: else
		fi
	}
}

inline change_tail(id, tag, what)
{
	d_step {
		if
		:: tail_id == id && tail_tag == tag -> tail_id = what; tail_tag = NEXT(tag)
		:: else
		fi
	}
}

inline unlink_closed()
{
	read_link(SENTINEL, h_id, h_tag);
	if
	:: tail_id == t_id && tail_tag == t_tag ->
		if
		:: h_id == t_id -> change_link(SENTINEL, h_id, h_tag, NONE)
		:: else
		fi;
		change_tail(t_id, t_tag, SENTINEL)
	:: else
	fi;
	atomic { h_id = 0; h_tag = 0 }
}

/* Appends first .. last, that is one block or two. */
inline push(first, last)
{
	if
	:: first != last -> set_link(first, last)
	:: else
	fi;
	set_link(last, NONE);
	do
	:: read_tail(t_id, t_tag);
	   read_link(t_id, n_id, n_tag);
	   if
#ifndef BUG_RECHECK
	   :: tail_id != t_id || tail_tag != t_tag
#endif
	   :: else ->
		if
		:: n_id == CLOSED -> unlink_closed()
		:: n_id == NONE ->
			change_link(t_id, n_id, n_tag, first);
			if
			:: ok -> change_tail(t_id, t_tag, last); break
			:: else
			fi
		:: else ->
			assert(n_id <= BLOCKS);
			change_tail(t_id, t_tag, n_id)
		fi
	   fi
	od;
	atomic { t_id = 0; t_tag = 0; n_id = 0; n_tag = 0; ok = false }
}

/* Sets b to a block, or NONE. */
inline pop()
{
	do
	:: read_link(SENTINEL, f_id, f_tag);
	   if
	   :: f_id == NONE -> b = NONE; break
	   :: else
	   fi;
	   read_tail(t_id, t_tag);
	   read_link(f_id, n_id, n_tag);
	   if
	   :: link_id[SENTINEL] != f_id || link_tag[SENTINEL] != f_tag
	   :: else ->
		if
#ifndef BUG_HELP
		:: t_id == SENTINEL -> change_tail(t_id, t_tag, f_id)
		:: t_id != SENTINEL && n_id == CLOSED -> unlink_closed()
		:: t_id == f_id && n_id != NONE && n_id != CLOSED ->
			change_tail(t_id, t_tag, n_id)
		:: t_id != SENTINEL && t_id != f_id && n_id != CLOSED ->
#else
		:: n_id == CLOSED -> unlink_closed()
		:: n_id != NONE && n_id != CLOSED ->
#endif
			change_link(SENTINEL, f_id, f_tag, n_id);
			if
			:: ok -> b = f_id; break
			:: else
			fi
#ifndef BUG_HELP
		:: t_id == f_id && n_id == NONE ->
#else
		:: n_id == NONE ->
#endif
#ifndef BUG_CLOSE
			change_link(f_id, n_id, n_tag, CLOSED);
			if
			:: ok -> unlink_closed(); b = f_id; break
			:: else
			fi
#else
			change_link(SENTINEL, f_id, f_tag, NONE);
			if
			:: ok -> change_tail(t_id, t_tag, SENTINEL); b = f_id; break
			:: else
			fi
#endif
		fi
	   fi
	od;
	atomic { f_id = 0; f_tag = 0; t_id = 0; t_tag = 0; n_id = 0; n_tag = 0; ok = false }
}

/* slab_block_aside(): takes b away when its slab drains. The d_step is the lock. */
inline set_aside()
{
	if
	:: IN_A(b) && draining ->
		d_step {
			if
#ifndef BUG_ASIDE
			:: !draining
#endif
			:: else ->
				link_id[b] = ASIDE;
				link_tag[b] = NEXT(link_tag[b]);
				aside++;
				b = NONE
			fi
		}
	:: else
	fi
}

inline put()
{
	set_aside();
	if
	:: b != NONE -> push(b, b)
	:: else
	fi
}

#define LOCALS \
	byte b, f_id, f_tag, t_id, t_tag, n_id, n_tag, h_id, h_tag; \
	bool ok

/* A user of the pool. */
proctype user()
{
	LOCALS;
	byte rounds = ROUNDS;

	do
	:: rounds > 0 ->
		rounds--;
		pop();
		if
		:: b != NONE -> set_aside()
		:: else
		fi;
		if
		:: b != NONE ->
			d_step { assert(!held[b]); held[b] = true };
			held[b] = false;
			put()
		:: else
		fi
	:: else -> break
	od;
	atomic { b = 0; running-- }
}

/* Carves slab A, drains it, and carves it again, or cancels. */
proctype trader()
{
	LOCALS;
	byte steps = 2;

	push(1, 2);
	draining = true;
	do
	:: steps > 0 ->
		steps--;
		pop();
		if
		:: b != NONE -> put()
		:: else -> steps = 0
		fi
	:: else -> break
	od;
	if
	:: d_step { aside == 2 ->
		/* Bare: all of it is the trader's. */
		draining = false;
		aside = 0;
		assert(!held[1] && !held[2]);
		assert(link_id[1] == ASIDE && link_id[2] == ASIDE)
	   };
	   push(1, 2)
	:: d_step { aside != 2 -> draining = false };
	   b = 1;
	   do
	   :: b <= 2 ->
		if
		:: link_id[b] == ASIDE -> aside--; push(b, b)
		:: else
		fi;
		b++
	   :: else -> break
	   od
	fi;
	atomic { b = 0; steps = 0; running-- }
}

init
{
	byte b, n;

	atomic {
#ifdef LIST_ONLY
		link_id[SENTINEL] = 1;
		link_id[1] = 2;
		tail_id = 2;
#else
		/* slab B is carved */
		link_id[SENTINEL] = 3;
		tail_id = 3;
		running++;
		run trader();
#endif
		n = THREADS;
		do
		:: n > 0 -> run user(); n--
		:: else -> break
		od
	}
	running == 0;
	d_step {
		assert(aside == 0);
		b = link_id[SENTINEL];
		do
		:: b != NONE && b <= BLOCKS && n <= BLOCKS -> n++; b = link_id[b]
		:: else -> break
		od;
		assert(b == NONE);
		assert(n == BLOCKS)
	}
}
