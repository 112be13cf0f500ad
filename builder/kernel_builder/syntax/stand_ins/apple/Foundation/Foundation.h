// Stands in for Apple's Foundation where there is none, so that clang can read Objective-C++: what kernels use of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dispatch/dispatch.h>

typedef signed char BOOL;
typedef unsigned long NSUInteger;
typedef long NSInteger;
typedef double NSTimeInterval;
typedef struct { NSUInteger location, length; } NSRange;
typedef struct objc_selector* SEL;
#define YES ((BOOL)1)
#define NO ((BOOL)0)
#define nil nullptr
#define NS_ASSUME_NONNULL_BEGIN
#define NS_ASSUME_NONNULL_END
#define NS_ENUM(type, name) enum name : type
inline NSRange NSMakeRange(NSUInteger location, NSUInteger length) { return {location, length}; }

@protocol NSObject
- (instancetype)retain;
- (oneway void)release;
- (instancetype)autorelease;
- (BOOL)isKindOfClass:(Class)kind;
- (BOOL)respondsToSelector:(SEL)selector;
@end
@protocol NSCopying
@end
__attribute__((objc_root_class)) @interface NSObject <NSObject>
+ (instancetype)alloc;
+ (instancetype)new;
- (instancetype)init;
- (void)dealloc;
@end
@class NSData, NSError, NSURL;
@interface NSString : NSObject <NSCopying>
@property(readonly) const char* UTF8String;
@property(readonly) NSUInteger length;
+ (instancetype)stringWithUTF8String:(const char*)text;
+ (instancetype)stringWithFormat:(NSString*)format, ...;
+ (instancetype)stringWithContentsOfFile:(NSString*)path encoding:(NSUInteger)encoding error:(NSError**)error;
- (NSString*)stringByAppendingString:(NSString*)text;
- (NSString*)stringByAppendingPathComponent:(NSString*)text;
- (NSString*)stringByDeletingLastPathComponent;
- (BOOL)isEqualToString:(NSString*)text;
@end
@interface NSConstantString : NSString
@end
@interface NSNumber : NSObject
+ (instancetype)numberWithInt:(int)value;
+ (instancetype)numberWithUnsignedInt:(unsigned)value;
+ (instancetype)numberWithBool:(BOOL)value;
+ (instancetype)numberWithFloat:(float)value;
+ (instancetype)numberWithDouble:(double)value;
+ (instancetype)numberWithLongLong:(long long)value;
@end
@interface NSArray<T> : NSObject
@property(readonly) NSUInteger count;
+ (instancetype)arrayWithObjects:(const T[])objects count:(NSUInteger)count;
- (T)objectAtIndexedSubscript:(NSUInteger)index;
@end
@interface NSMutableArray<T> : NSArray<T>
- (void)addObject:(T)object;
@end
@interface NSDictionary<K, V> : NSObject
+ (instancetype)dictionaryWithObjects:(const V[])objects forKeys:(const K[])keys count:(NSUInteger)count;
- (V)objectForKey:(K)key;
- (V)objectForKeyedSubscript:(K)key;
@end
@interface NSMutableDictionary<K, V> : NSDictionary<K, V>
- (void)setObject:(V)object forKey:(K)key;
- (void)setObject:(V)object forKeyedSubscript:(K)key;
@end
@interface NSError : NSObject
@property(readonly) NSString* localizedDescription;
@property(readonly) NSString* description;
@property(readonly) NSInteger code;
@end
@interface NSURL : NSObject
@property(readonly) NSString* path;
+ (instancetype)fileURLWithPath:(NSString*)path;
+ (instancetype)URLWithString:(NSString*)text;
@end
@interface NSData : NSObject
@property(readonly) const void* bytes;
@property(readonly) NSUInteger length;
+ (instancetype)dataWithBytes:(const void*)bytes length:(NSUInteger)length;
@end
@interface NSBundle : NSObject
+ (instancetype)mainBundle;
+ (instancetype)bundleForClass:(Class)kind;
- (NSString*)pathForResource:(NSString*)name ofType:(NSString*)type;
@end
@interface NSProcessInfo : NSObject
+ (instancetype)processInfo;
@end
@interface NSAutoreleasePool : NSObject
@end
extern "C" void NSLog(NSString* format, ...);
static const NSUInteger NSUTF8StringEncoding = 4;
