/** How an update treats what is there: BPF_NOEXIST, BPF_EXIST. BPF_F_LOCK: under the spin lock of the value. */
export const NOEXIST: u64 = 1;
export const EXIST: u64 = 2;
export const LOCK: u64 = 4;
