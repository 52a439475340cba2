/* SPDX-License-Identifier: ISC */
/*
 * Can KVM run an unmodified guest here? /dev/kvm must open, and the CPU must show VMX or
 * SVM: some clouds offer a /dev/kvm without them, which takes every ioctl and then
 * emulates each instruction, far too slowly to boot a kernel.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "engine/kvm/kvm.h"

static const char default_device[] = "/dev/kvm";

static bool cpu_has_virtualization(void)
{
	enum { VMX = 1 << 5, SVM = 1 << 2 }; /* leaf 1 ECX; leaf 0x80000001 ECX */
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & VMX) != 0) {
		return true;
	}
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & SVM) != 0;
}

static int fail_open(const char *device, int code, struct hk_err *err)
{
	hk_fail(err, code, "%s", device);
	switch (code) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		hk_err_hint(err,
			"switch virtualization on in the firmware and load kvm_intel or "
			"kvm_amd; in a virtual "
			"machine or container, ask its host for nested KVM");
		break;
	case EACCES:
	case EPERM:
		hk_err_hint(err,
			"let this user open it: sudo usermod -aG kvm \"$USER\", then log in anew");
		break;
	default:
		break;
	}
	return -code;
}

/* What we cannot do without; all are older than any supported host kernel. */
static const struct {
	int cap;
	const char *name;
} required_caps[] = {
	{KVM_CAP_IRQCHIP, "an in-kernel interrupt controller"},
	{KVM_CAP_USER_MEMORY, "user memory regions"},
	{KVM_CAP_IOEVENTFD, "ioeventfd"},
	{KVM_CAP_IRQFD, "irqfd"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	{KVM_CAP_TSC_DEADLINE_TIMER, "the TSC deadline timer"},
	{KVM_CAP_XSAVE, "XSAVE state"},
	{KVM_CAP_XCRS, "XCR state"},
	{KVM_CAP_DEBUGREGS, "debug registers"},
	{KVM_CAP_VCPU_EVENTS, "vCPU events"},
	{KVM_CAP_ADJUST_CLOCK, "the paravirtual clock"},
};

int hk_kvm_open_device(const char *device, bool has_virtualization, struct hk_err *err)
{
	autoclose int fd = hk_open(AT_FDCWD, device, O_RDWR, 0);

	if (fd < 0) {
		return fail_open(device, -fd, err);
	}
	if (!has_virtualization) {
		hk_fail_msg(err, ENOTSUP,
			"%s: the CPU shows neither vmx nor svm, so KVM could only emulate", device);
		hk_err_hint(err,
			"use a machine with hardware virtualization (in a virtual "
			"machine: nested)");
		return -ENOTSUP;
	}

	int version = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version < 0) {
		return hk_fail_msg(err, ENOTSUP, "%s: is not KVM's device", device);
	}
	if (version != KVM_API_VERSION) {
		return hk_fail_msg(err, ENOTSUP, "%s: speaks API version %d, not %d", device,
			version, KVM_API_VERSION);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(required_caps); i++) {
		if (ioctl(fd, KVM_CHECK_EXTENSION, required_caps[i].cap) <= 0) {
			return hk_fail_msg(
				err, ENOTSUP, "%s: lacks %s", device, required_caps[i].name);
		}
	}
	return take_fd(&fd);
}

int hk_kvm_open(struct hk_err *err)
{
	return hk_kvm_open_device(default_device, cpu_has_virtualization(), err);
}

void hk_kvm_probe(struct hk_engine_probe *probe)
{
	struct hk_err err = HK_ERR_INIT;
	autoclose int fd = hk_kvm_open(&err);

	probe->usable = fd >= 0;
	if (probe->usable) {
		hk_fmt(probe->reason, sizeof(probe->reason), "%s opens and the CPU has %s",
			default_device, __builtin_cpu_is("amd") ? "svm" : "vmx");
		return;
	}
	hk_fmt(probe->reason, sizeof(probe->reason), "%s", hk_err_text(&err));
	hk_fmt(probe->hint, sizeof(probe->hint), "%s", err.hint);
}
