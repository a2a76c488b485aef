/* SPDX-License-Identifier: BSD-2-Clause */
/* memory.c: what macOS alone has of it; must not know what it is for. */
#include "config.h"

#include <errno.h>
#include <mach/mach.h>
#include <sys/mman.h>

#include "memory.h"
#include "memory_parts.h"

/*
 * A tag takes the place of the descriptor (mmap(2)).  Of what has this one the
 * kernel writes nothing to a core file (bsd/kern/kern_core.c); there is no other
 * way to ask for that, and it is not promised.
 */
void *
memory_map_new(void *at, size_t size, int protection, int flags)
{
	return mmap(at, size, protection, MAP_PRIVATE | MAP_ANON | flags,
	    VM_MAKE_TAG(VM_MEMORY_IOKIT), 0);
}

int
memory_claim(void *at, size_t size)
{
	void *got = memory_map_new(at, size, PROT_NONE, 0);

	if (got == MAP_FAILED)
		return -1;
	if (got == at)
		return 0;
	memory_vacate(got, size); /* AT is a hint */
	return -1;
}

/* A system call for each mapping. */
bool
memory_is_locked(void *at, size_t size)
{
	vm_address_t next = (vm_address_t)at, end = next + size;

	while (next < end) {
		vm_address_t start = next;
		vm_size_t length = 0;
		vm_region_basic_info_data_64_t info;
		mach_msg_type_number_t count = VM_REGION_BASIC_INFO_COUNT_64;
		mach_port_t object = MACH_PORT_NULL;

		if (vm_region_64(mach_task_self(), &start, &length,
		    VM_REGION_BASIC_INFO_64, (vm_region_info_t)&info, &count,
		    &object) != KERN_SUCCESS || start > next ||
		    info.user_wired_count == 0)
			return false;
		next = start + length;
	}
	return true;
}

int
memory_keep_from_children(void *at, size_t size)
{
	return minherit(at, size, VM_INHERIT_NONE);
}

/*
 * Only fork(2) makes children, and it runs handlers: nothing is wiped, since
 * the kernel cannot.
 */
int
memory_wipe_in_children(void *at, size_t size)
{
	(void)at;
	(void)size;
	return 0;
}
