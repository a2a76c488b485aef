/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * protocol.h: what library and helper say to each other, and nothing else.
 *
 * The carrier is a connected SOCK_SEQPACKET socket.  The library asks, the
 * helper answers each request with exactly one reply, in order.  Every request
 * has one length and every reply another; all fields are little-endian; fields
 * that a request or reply does not use are zero, and a receiver refuses them
 * otherwise.  A request that breaks a rule of form ends the conversation, but
 * not the locks: those last as long as anybody maps the memory.
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
 * HELLO    a = lowest version,      a = version to use, b = largest pool in
 *          b = highest; the first   bytes, c = bytes left of the quota
 *          request, and only once
 * GRANT    a = bytes, whole pages   id = the pool's; one descriptor: a memfd of
 *                                   that size, sealed SHRINK|GROW, to be mapped
 *                                   and populated; one may be outstanding
 * LOCK     id = the granted pool's  a = bytes locked in this conversation; any
 *                                   other status withdraws the grant
 * RELEASE  id = a pool's, granted   a = bytes locked in this conversation
 *          or locked
 * STATUS   nothing                  a = bytes locked, b = pools locked,
 *                                   c = bytes left of the quota
 *
 * The header of HELLO and of its reply says version 1 for good, so that any two
 * can find out what they have in common; every other packet, the version that
 * HELLO agreed on.
 *
 * Before a request, all replies have been read.  A helper ends a conversation
 * that is silent for a minute before HELLO, or while nobody maps a pool.
 *
 * A helper that can serve nobody (it has no privilege, a limit it inherited
 * leaves it no room) answers HELLO with the reason as its status and ends.
 */
#ifndef SECMALLOC_PROTOCOL_H
#define SECMALLOC_PROTOCOL_H

#include <stdint.h>

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
	WIRE_STATUS = 5
};

/* Not errno: its numbers differ between architectures. */
enum wire_status {
	WIRE_OK = 0,
	WIRE_EPERM = 1,    /* the helper may not lock */
	WIRE_EDQUOT = 2,   /* policy refuses */
	WIRE_ENOMEM = 3,   /* the system, or an inherited limit, refuses */
	WIRE_EINVAL = 4,   /* the size, or a pool that is not populated */
	WIRE_EPROTO = 5    /* no version in common */
};

/* One request or reply, unpacked.  STATUS and C are of replies only. */
struct wire_message {
	uint16_t version;
	uint16_t type;
	uint32_t id;
	uint32_t status;
	uint64_t a;
	uint64_t b;
	uint64_t c;
};

static inline void
wire_put(unsigned char *to, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (unsigned char)(value >> (8 * i));
}

static inline uint64_t
wire_get(const unsigned char *from, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

/* TO has room for LENGTH bytes: WIRE_REQUEST_LEN or WIRE_REPLY_LEN. */
static inline void
wire_pack(unsigned char *to, unsigned length, const struct wire_message *m)
{
	wire_put(to, WIRE_MAGIC, 4);
	wire_put(to + 4, m->version, 2);
	wire_put(to + 6, m->type, 2);
	wire_put(to + 8, m->id, 4);
	wire_put(to + 12, length == WIRE_REPLY_LEN ? m->status : 0, 4);
	wire_put(to + 16, m->a, 8);
	wire_put(to + 24, m->b, 8);
	if (length == WIRE_REPLY_LEN)
		wire_put(to + 32, m->c, 8);
}

/*
 * FROM holds LENGTH bytes.  Returns 0, or -1 if the magic is wrong or the
 * padding of a request is not zero; version, type and what the fields of that
 * type may be are the caller's to check.
 */
static inline int
wire_unpack(const unsigned char *from, unsigned length, struct wire_message *m)
{
	if (wire_get(from, 4) != WIRE_MAGIC)
		return -1;
	m->version = (uint16_t)wire_get(from + 4, 2);
	m->type = (uint16_t)wire_get(from + 6, 2);
	m->id = (uint32_t)wire_get(from + 8, 4);
	m->status = (uint32_t)wire_get(from + 12, 4);
	m->a = wire_get(from + 16, 8);
	m->b = wire_get(from + 24, 8);
	m->c = length == WIRE_REPLY_LEN ? wire_get(from + 32, 8) : 0;
	return length == WIRE_REQUEST_LEN && m->status != 0 ? -1 : 0;
}

#endif
