/** Errors as helpers answer them: negative numbers of the generic Linux ABI (include/uapi/asm-generic/errno.h). */
export const ENOENT: i64 = -2;
export const E2BIG: i64 = -7;
export const EAGAIN: i64 = -11;
export const ENOMEM: i64 = -12;
export const EACCES: i64 = -13;
export const EFAULT: i64 = -14;
export const EEXIST: i64 = -17;
export const ENODEV: i64 = -19;
export const EBUSY: i64 = -16;
export const EINVAL: i64 = -22;
export const ENOSPC: i64 = -28;
export const ERANGE: i64 = -34;
export const EPROTO: i64 = -71;
export const EOVERFLOW: i64 = -75;
export const EOPNOTSUPP: i64 = -95;
export const EAFNOSUPPORT: i64 = -97;
export const EALREADY: i64 = -114;
/** Kernel internal (include/linux/errno.h), yet programs see it. */
export const ENOTSUPP: i64 = -524;
