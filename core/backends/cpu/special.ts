/**
 * The error function to double precision, by the rational Chebyshev approximations of W. J. Cody, "Rational Chebyshev
 * approximations for the error function", Math. Comp. 23 (1969), with the coefficients of his CALERF (netlib, SPECFUN).
 * Three ranges: |x| ≤ 0.46875 gives erf, up to 4 and beyond give erfc. Relative error below 1e-15 in both.
 */

const smallNumerator = [
  0.18577770618460315, 3.1611237438705655, 113.86415415105016, 377.485237685302, 3209.3775891384694,
]
const smallDenominator = [1, 23.601290952344122, 244.02463793444417, 1282.6165260773723, 2844.236833439171]

const middleNumerator = [
  2.1531153547440383e-8, 0.5641884969886701, 8.883149794388377, 66.11919063714163, 298.6351381974001, 881.952221241769,
  1712.0476126340707, 2051.0783778260716, 1230.3393547979972,
]
const middleDenominator = [
  1, 15.744926110709835, 117.6939508913125, 537.1811018620099, 1621.3895745666903, 3290.7992357334597,
  4362.619090143247, 3439.3676741437216, 1230.3393548037495,
]

const largeNumerator = [
  0.016315387137302097, 0.30532663496123236, 0.36034489994980445, 0.12578172611122926, 0.016083785148742275,
  6.587491615298378e-4,
]
const largeDenominator = [
  1, 2.568520192289822, 1.8729528499234673, 0.5279051029514285, 0.06051834131244132, 0.0023352049762686918,
]

/** Horner's rule, highest power first. */
function polynomial(coefficients: readonly number[], x: number): number {
  let sum = 0
  for (let i = 0; i < coefficients.length; i++) sum = sum * x + coefficients[i]
  return sum
}

function erfSmall(x: number): number {
  const square = x * x
  return (x * polynomial(smallNumerator, square)) / polynomial(smallDenominator, square)
}

/** erfc of y > 0.46875. */
function erfcTail(y: number): number {
  if (y > 27) return 0
  // exp(−y²) loses digits when y² is rounded: split y into a head with few bits, whose square is exact, and a rest.
  const head = Math.trunc(y * 16) / 16
  const gauss = Math.exp(-head * head) * Math.exp(-(y - head) * (y + head))
  if (y <= 4) return (gauss * polynomial(middleNumerator, y)) / polynomial(middleDenominator, y)
  const z = 1 / (y * y)
  const tail = (z * polynomial(largeNumerator, z)) / polynomial(largeDenominator, z)
  return (gauss * (1 / Math.sqrt(Math.PI) - tail)) / y
}

/** 2/√π ∫₀ˣ e^(−s²) ds. */
export function erf(x: number): number {
  const y = Math.abs(x)
  if (!(y > 0.46875)) return erfSmall(x)
  return Math.sign(x) * (1 - erfcTail(y))
}

/** 1 − erf(x), without cancellation for large x. */
export function erfc(x: number): number {
  const y = Math.abs(x)
  if (!(y > 0.46875)) return 1 - erfSmall(x)
  return x > 0 ? erfcTail(y) : 2 - erfcTail(y)
}
