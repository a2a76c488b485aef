/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocol.h: what library and helper say to each other, and nothing else.
 *
 * The carrier is a connected SOCK_SEQPACKET socket.  The library asks, the
 * helper answers each request with exactly one reply, in order.  Every request
 * has one length and every reply another; all fields are little-endian; fields
 * that a request or reply does not use are zero, and a receiver refuses them
 * otherwise; a descriptor comes with what it is listed for, and with nothing
 * else.  A request that breaks a rule of form ends the conversation, but not the
 * locks: those last as long as anybody maps the memory.
 *
 * request, 32 bytes               reply, 40 bytes
 *    0  u32  magic                   0  u32  magic
 *    4  u16  version                 4  u16  version
 *    6  u16  type                    6  u16  type, of the request
 *    8  u32  id                      8  u32  id
 *   12  u32  zero                   12  u32  status
 *   16  u64  a                       16  u64  a
 *   24  u64  b                       24  u64  b
 *                                    32  u64  c
 *
 * type     request                  reply (status OK)
 * HELLO    a = lowest version,      a = version to use, b = what policy allows
 *          b = highest; the first   this user, c = what of that is left, bytes;
 *          request, and only once   one descriptor: the pulse, see below
 * GRANT    a = bytes, whole pages   id = the pool's; one descriptor: a memfd of
 *                                   that size, sealed SHRINK|GROW, to be mapped
 *                                   and populated; one may be outstanding
 * LOCK     id = the granted pool's  a = bytes locked in this conversation; any
 *                                   other status withdraws the grant
 * ADOPT    a = bytes; with one      id = the pool's; a = bytes locked in this
 *          descriptor: a memfd as   conversation; not while one is outstanding
 *          GRANT gives it, mapped
 *          and populated, whose
 *          helper is gone
 * RELEASE  id = a pool's, granted   a = bytes locked in this conversation
 *          or locked
 * STATUS   nothing                  a = bytes locked, b = pools locked,
 *                                   c = bytes left of the quota
 *
 * The pulse is a memfd of a page, to be mapped and read: its first 32 bits, in
 * the machine's order, are a robust futex that the helper holds.  While they are
 * without WIRE_PULSE_DIED, the helper lives, and what it has locked is locked,
 * whatever becomes of the conversation.
 *
 * The header of HELLO and of its reply says version 1 for good, so that any two
 * can find out what they have in common; every other packet, the version that
 * HELLO agreed on.
 *
 * Before a request, all replies have been read.  A helper ends a conversation
 * that is silent for a minute before HELLO, or while nobody maps a pool.
 *
 * A helper that cannot serve (it has no privilege, policy does not allow
 * another one, a limit it inherited leaves it no room) answers HELLO with the
 * reason as its status and ends.
 */
#ifndef SECMALLOC_PROTOCOL_H
#define SECMALLOC_PROTOCOL_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

enum {
	WIRE_MAGIC = 0x4d434553, /* "SECM" as it stands on the wire */
	WIRE_VERSION = 1,
	WIRE_REQUEST_LEN = 32,
	WIRE_REPLY_LEN = 40,
	/* Pools of one conversation, granted and locked together. */
	WIRE_POOLS_MAX = 1024
};

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_GRANT = 2,
	WIRE_LOCK = 3,
	WIRE_RELEASE = 4,
	WIRE_STATUS = 5,
	WIRE_ADOPT = 6
};

/* FUTEX_OWNER_DIED, of linux/futex.h. */
#define WIRE_PULSE_DIED UINT32_C(0x40000000)

/* Not errno: its numbers differ between architectures. */
enum wire_status {
	WIRE_OK = 0,
	WIRE_EPERM = 1,    /* the helper may not lock, or is not set up */
	WIRE_EDQUOT = 2,   /* policy refuses */
	WIRE_ENOMEM = 3,   /* the system, or an inherited limit, refuses */
	WIRE_EINVAL = 4,   /* the size, or no pool, or one that is not populated */
	WIRE_EPROTO = 5    /* no version in common */
};

/* One request or reply; laid out as on the wire.  C is of replies only. */
struct wire_message {
	uint32_t magic;    /* wire_pack() sees to it */
	uint16_t version;
	uint16_t type;
	uint32_t id;
	uint32_t status;   /* of replies only */
	uint64_t a;
	uint64_t b;
	uint64_t c;
};

_Static_assert(sizeof(struct wire_message) == WIRE_REPLY_LEN, "no padding");

/* Between the machine's order of bytes and little-endian, either way. */
static inline void
wire_swap(struct wire_message *m)
{
	m->magic = htole32(m->magic);
	m->version = htole16(m->version);
	m->type = htole16(m->type);
	m->id = htole32(m->id);
	m->status = htole32(m->status);
	m->a = htole64(m->a);
	m->b = htole64(m->b);
	m->c = htole64(m->c);
}

/* TO has room for LENGTH bytes: WIRE_REQUEST_LEN or WIRE_REPLY_LEN. */
static inline void
wire_pack(unsigned char *to, unsigned length, const struct wire_message *m)
{
	struct wire_message packed = *m;

	packed.magic = WIRE_MAGIC;
	if (length == WIRE_REQUEST_LEN)
		packed.status = 0;
	wire_swap(&packed);
	memcpy(to, &packed, length);
}

/*
 * FROM holds LENGTH bytes.  Returns 0, or -1 if the magic is wrong or the
 * padding of a request is not zero; version, type and what the fields of that
 * type may be are the caller's to check.
 */
static inline int
wire_unpack(const unsigned char *from, unsigned length, struct wire_message *m)
{
	memset(m, 0, sizeof(*m));
	memcpy(m, from, length);
	wire_swap(m);
	return m->magic != WIRE_MAGIC ||
	    (length == WIRE_REQUEST_LEN && m->status != 0) ? -1 : 0;
}

#endif
