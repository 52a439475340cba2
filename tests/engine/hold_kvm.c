/* SPDX-License-Identifier: ISC */
/*
 * Keeps one idle virtual machine until it is killed, so that KVM never sees its first or its last.
 *
 * With these, and with the first and last vCPU whose local APIC is off, the kernel switches static
 * keys, which means patching its own code while it runs. In the rig the kernel is emulated, and
 * with several processors QEMU 7.2 can keep on executing the breakpoint of such a patch when it is
 * long gone: after some hundred machines, the whole of L1 hangs.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0) {
		perror("hold_kvm");
		return 1;
	}
	for (;;) {
		pause();
	}
}
