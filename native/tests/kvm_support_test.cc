// What kvm_support.h promises, and the first tests: a vCPU runs, in real and in user mode.
#include "kvm_support.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace ft::test {
namespace {

// Page tables of the user-mode guest: 2 MiB pages for memory, the MMIO hole and the local APIC.
constexpr uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPdLow = 0x3000, kPdHigh = 0x4000, kTss = 0x5000;
constexpr uint64_t kTable = 0x27;  // present, writable, user, accessed
constexpr uint64_t kLarge = 0xe7;  // the same, dirty, 2 MiB

thread_local kvm_run* running = nullptr;

void on_alarm(int) {
  if (running != nullptr) __atomic_store_n(&running->immediate_exit, 1, __ATOMIC_RELAXED);
}

kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, bool is_long) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.dpl = dpl;
  s.db = is_long ? 0 : 1;
  s.s = 1;
  s.l = is_long ? 1 : 0;
  s.g = 1;
  return s;
}

/// Fires once on the calling thread after `us`, again and again until it is gone.
class Alarm {
 public:
  explicit Alarm(int64_t us) {
    struct sigaction action {};
    action.sa_handler = on_alarm;
    REQUIRE(sigaction(SIGRTMIN + 5, &action, nullptr) == 0);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN + 5;
    event._sigev_un._tid = static_cast<int>(syscall(SYS_gettid));
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
    itimerspec spec{};
    spec.it_value.tv_sec = us / 1'000'000;
    spec.it_value.tv_nsec = us % 1'000'000 * 1000;
    spec.it_interval.tv_nsec = 1'000'000;  // should the first one be missed
    REQUIRE(timer_settime(timer_, 0, &spec, nullptr) == 0);
  }
  ~Alarm() { timer_delete(timer_); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

 private:
  timer_t timer_{};
};

}  // namespace

bool kvm_there() {
  return ::access("/dev/kvm", F_OK) == 0;
}

Guest::Guest(const GuestOptions& options) : kvm_(must(Kvm::open())) {
  if (options.caps) kvm_.limit_caps(*options.caps);
  memory_ = must(MappedRegion::anonymous(kMemoryBytes, "a test guest"));
  vm_.emplace(must(Vm::create(kvm_, options.ring_bytes)));
  must(vm_->set_memory(0, 0, memory_.data(), kMemoryBytes, options.log_dirty));
  auto cpuid = must(kvm_.supported_cpuid());
  for (auto& leaf : cpuid) {
    if (leaf.function == 1 && options.tsc_deadline) leaf.ecx |= 1u << 24;
  }
  for (uint32_t i = 0; i < options.vcpus; i++) {
    vcpus_.push_back(must(Vcpu::create(kvm_, *vm_, i, cpuid)));
    access_.push_back(must(VcpuStateAccess::probe(kvm_, vcpus_.back())));
  }
}

void Guest::start_real(uint64_t gpa, size_t vcpu) {
  kvm_sregs sregs{};
  REQUIRE(ioctl(vcpus_[vcpu].fd(), KVM_GET_SREGS, &sregs) == 0);
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  for (kvm_segment* s : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
    *s = segment(0, 3, 0, false);
    s->db = 0;
  }
  REQUIRE(ioctl(vcpus_[vcpu].fd(), KVM_SET_SREGS, &sregs) == 0);
  kvm_regs regs{};
  regs.rip = gpa;
  regs.rsp = 0x8000;
  regs.rflags = 2;
  set_regs(regs, vcpu);
}

void Guest::start_user(uint64_t rsp) {
  value<uint64_t>(kPml4) = kPdpt | kTable;
  value<uint64_t>(kPdpt) = kPdLow | kTable;
  value<uint64_t>(kPdpt + 3 * 8) = kPdHigh | kTable;
  for (uint64_t gpa = 0; gpa < kMemoryBytes; gpa += 2 << 20) {
    value<uint64_t>(kPdLow + (gpa >> 21) * 8) = gpa | kLarge;
  }
  for (uint64_t gpa : {kMmioGpa, uint64_t{0xfee00000}}) {
    value<uint64_t>(kPdHigh + ((gpa >> 21) & 511) * 8) = gpa | kLarge | 0x10;  // uncached
  }
  const int fd = vcpus_[0].fd();
  kvm_sregs sregs{};
  REQUIRE(ioctl(fd, KVM_GET_SREGS, &sregs) == 0);
  sregs.cs = segment(0x33, 0xb, 3, true);
  for (kvm_segment* s : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
    *s = segment(0x2b, 3, 3, false);
  }
  sregs.tr = segment(0x40, 0xb, 0, false);
  sregs.tr.base = kTss;
  sregs.tr.limit = 0x67;
  sregs.tr.s = sregs.tr.g = sregs.tr.db = 0;
  sregs.cr3 = kPml4;
  sregs.cr4 = 0x20 | 0x200 | 0x400 | 0x40000;  // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
  sregs.cr0 = 0x80000033;                      // PG, NE, ET, MP, PE
  sregs.efer = 0xd01;                          // NXE, LMA, LME, SCE
  REQUIRE(ioctl(fd, KVM_SET_SREGS, &sregs) == 0);
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = 7;  // x87, SSE, AVX
  REQUIRE(ioctl(fd, KVM_SET_XCRS, &xcrs) == 0);
  kvm_regs regs{};
  regs.rip = kCodeGpa;
  regs.rsp = rsp;
  regs.rflags = 2;
  set_regs(regs);
}

void Guest::set_regs(const kvm_regs& regs, size_t vcpu) {
  REQUIRE(ioctl(vcpus_[vcpu].fd(), KVM_SET_REGS, &regs) == 0);
  must(vcpus_[vcpu].refresh_synced_regs());
}

kvm_regs Guest::regs(size_t vcpu) {
  kvm_regs regs{};
  REQUIRE(ioctl(vcpus_[vcpu].fd(), KVM_GET_REGS, &regs) == 0);
  return regs;
}

Vcpu::Exit Guest::run_for(int64_t us, size_t vcpu) {
  running = vcpus_[vcpu].run_page();
  Vcpu::Exit exit = Vcpu::Exit::kOther;
  {
    Alarm alarm(us);
    exit = run(vcpu);
  }
  running = nullptr;
  vcpus_[vcpu].run_page()->immediate_exit = 0;
  if (exit == Vcpu::Exit::kInterrupted) {
    REQUIRE(must(vcpus_[vcpu].complete_pending_io()) == Vcpu::Exit::kInterrupted);
  }
  return exit;
}

std::vector<uint8_t> Guest::capture() {
  StateWriter writer;
  writer.begin();
  for (size_t i = 0; i < vcpus_.size(); i++) must(access_[i].capture(vcpus_[i], writer));
  must(capture_vm_state(*vm_, writer));
  const auto blob = writer.finish();
  return {blob.begin(), blob.end()};
}

Status Guest::restore(const std::vector<uint8_t>& blob) {
  auto reader = StateReader::open(blob);
  if (!reader.ok()) return reader.error();
  FT_TRY(restore_vm_state(*vm_, reader.value()));
  for (size_t i = 0; i < vcpus_.size(); i++) {
    FT_TRY(access_[i].restore(vcpus_[i], reader.value()));
  }
  return Ok{};
}

std::set<uint64_t> Guest::harvest(uint32_t* entries, size_t vcpu) {
  std::set<uint64_t> pages;
  const uint32_t n = vcpus_[vcpu].ring().harvest([&](const DirtyEntry& entry) {
    CHECK(entry.slot == 0);
    pages.insert(entry.offset);
  });
  if (entries != nullptr) *entries = n;
  return pages;
}

}  // namespace ft::test

using namespace ft;
using namespace ft::test;

GUEST_CODE(guest_real_add, ".code16", R"(
    addl %ebx, %eax
    movl %eax, 0x2000
    outb %al, $0x10
)");

KVM_TEST_CASE("real mode guest computes and exits by port") {
  Guest guest;
  guest.load(kCodeGpa - 0x8000, guest_bytes(guest_real_add, guest_real_add_end));
  guest.start_real(kCodeGpa - 0x8000);
  kvm_regs regs = guest.regs();
  regs.rax = 40;
  regs.rbx = 2;
  guest.set_regs(regs);
  CHECK(guest.run() == Vcpu::Exit::kIo);
  CHECK(guest.value<uint32_t>(0x2000) == 42);
  CHECK(guest.vcpu().describe_exit() == "port write 16");
  // The registers came with the exit, without an ioctl.
  CHECK(guest.vcpu().run_page()->s.regs.regs.rax == 42);
}

GUEST_CODE(guest_user_store, ".code64", R"(
    movq $0x1122334455667788, %rax
    movq %rax, 0x20000
    movl $0xd0000000, %edx
    movl %eax, (%rdx)
)");

KVM_TEST_CASE("user mode guest computes and exits by MMIO") {
  Guest guest;
  guest.load(kCodeGpa, guest_bytes(guest_user_store, guest_user_store_end));
  guest.start_user();
  REQUIRE(guest.run() == Vcpu::Exit::kMmio);
  CHECK(guest.value<uint64_t>(kDataGpa) == 0x1122334455667788);
  const kvm_run* run = guest.vcpu().run_page();
  CHECK(run->mmio.phys_addr == kMmioGpa);
  CHECK(run->mmio.is_write == 1);
  CHECK(run->mmio.len == 4);
  CHECK(guest.vcpu().describe_exit() == "mmio write 3489660928");
}
